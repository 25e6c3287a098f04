//! The log, the access lines and the metrics say what happens and why, once each.

mod access;
mod gauges;
mod outages;
mod program;
