//! The real programs: Docker Engine, containerd, Podman, Skopeo and Buildah pull through the real binary.
//!
//! It needs these programs, distribution and nginx, and is left out of a plain `cargo test`; `tests/run` installs
//! them and runs it. One test at a time: each starts a dozen programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod alerts;
mod chance;
mod chunked;
mod clean;
mod client;
mod crash;
mod crowd;
mod differ;
mod image;
mod lab;
mod mirror;
mod outage;
mod packages;
mod pages;
mod programs;
mod proxy;
mod pulls;
mod push;
mod raw;
mod readme;
mod redirected;
mod rights;
mod secrets;
mod soak;
mod strange;
mod swap;
mod tags;
mod trespass;
mod trust;
mod tunnel;
mod withdrawn;
mod year;
