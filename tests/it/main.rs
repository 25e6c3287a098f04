//! The integration tests: one binary, a module for each promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

mod ca;
mod cache_cli;
mod challenges;
mod config;
mod doctor;
mod documents;
mod doors;
mod examples;
mod faults;
mod guests;
mod hostile;
mod hostile_client;
mod layers;
mod limits;
mod mirror;
mod mirror_access;
mod predecessor;
mod pull;
mod reported;
mod scripted;
mod service;
mod setup;
mod setup_mirror;
mod store;
mod support;
mod token;
mod told;
mod upstream;
