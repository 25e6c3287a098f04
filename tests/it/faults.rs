//! Faults of each part, by kind, as docs/faults.md has them: what is cached pulls, what is not is never answered
//! wrongly, and all is well again when the fault is over.

mod catalog;
mod clock;
mod disk;
mod dns;
mod hang;
mod memory;
mod net;
mod network;
mod pushes;
