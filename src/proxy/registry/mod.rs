//! ESSAY

pub(crate) mod config;
pub(crate) mod outages;
pub(crate) mod registry;
pub(crate) mod verdict;
