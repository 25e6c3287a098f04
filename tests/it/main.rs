//! it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod store;
mod store_catalog;
mod store_power;
mod store_race;
