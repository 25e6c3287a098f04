//! it

mod store;
mod store_catalog;
mod store_power;
mod store_race;
