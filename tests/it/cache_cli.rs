//! `pullthrough cache`, the real program: with a running server and without.

mod lab;
mod listing;
mod pinning;
mod removing;
mod served;
mod socket;
mod why;
