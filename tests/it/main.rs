//! The integration tests: one binary, a module for each promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ca;
mod ca_cli;
mod ca_clients;
mod ca_folder;
mod ca_support;
mod cache_cli;
mod challenges;
mod config;
mod doctor;
mod documents;
mod examples;
mod faults;
mod guests;
mod hostile;
mod hostile_client;
mod layers;
mod limits;
mod predecessor;
mod pull;
mod scripted;
mod service;
mod setup;
mod store;
mod store_catalog;
mod store_damage;
mod store_files;
mod store_many;
mod store_partial;
mod store_power;
mod store_race;
mod store_trouble;
mod support;
mod token;
mod upstream;
