//! A caching forward proxy for container images.
//!
//! The rooms, from the top: `cli`, `server`, `config`, `proxy` and `admin`, `cache`, then `store`, `upstream`,
//! `ca` and `telemetry`, then `oci`, `wire`, `host` and `setup`. Imports only go down; `docs/architecture.md` walks a
//! request through them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic"))]

pub mod admin;
pub mod ca;
pub mod cache;
pub mod cli;
pub mod config;
#[cfg(any(test, fuzzing))]
#[path = "../fuzz/targets/mod.rs"]
pub mod fuzzing;
pub mod host;
pub mod oci;
pub mod proxy;
pub mod server;
pub mod setup;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod wire;
