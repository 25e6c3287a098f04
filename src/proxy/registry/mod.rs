//! Knows the configured registries, and what becomes of a CONNECT to any host.
//!
//! Flow: the configuration (`config`) becomes a `Registry` with its endpoints, credentials and policies (`registry`);
//! `verdict` says by name alone whether a host is intercepted, tunnelled or refused; `outages` keeps one outage for
//! each name that a registry has in the cache, and `lists` the last lists of referrers.
//! Scope: pure look-ups; no name is resolved here.
//! Never: take one host of a pattern for another; name a metric label that a client chose.

pub(crate) mod config;
pub(crate) mod lists;
pub(crate) mod outages;
pub(crate) mod registry;
pub(crate) mod verdict;
