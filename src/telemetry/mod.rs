//! What the program says of itself: the log, the access log, the metrics.

mod config;

pub use config::{Config, Format};
