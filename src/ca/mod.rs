//! The local certificate authority: a root that nodes trust, a constrained issuing certificate, leaves.

mod config;

pub use config::Config;
