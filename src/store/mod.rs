//! Blobs on disk: staged, committed, read, evicted.

mod config;

pub use config::Config;
