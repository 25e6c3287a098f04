//! The integration tests: one binary, one module for each room.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config;
