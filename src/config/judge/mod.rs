//! Checks the decoded sections for mistakes that no single value shows.
//!
//! Flow: [`check::check`] goes through the sections once: numbers, times and conflicts itself; users, rules and the audit
//! log in `clients`; held credentials in `credentials`; endpoints and `upstream.hosts` in `endpoints`; their certificates
//! in `pem`; parent proxies in `parents`. At the end `registries` merges the entries with the presets, `names` warns of
//! names that no registry answers to, and `mirror` checks that its names stand for registries. On the way, the files that the sections name become relative to the folder of the
//! configuration.
//! Scope: one configuration by itself. Whether a sealed CA covers it is checked in `config::check_sealed`.
//! Never: stop at the first mistake; contact a registry; create a file.
//! Reading: examples/pullthrough.yaml; RFC 7617 for users and passwords; RFC 7468 for PEM files.

pub(crate) mod check;
pub(crate) mod clients;
pub(crate) mod credentials;
pub(crate) mod endpoints;
pub(crate) mod mirror;
pub(crate) mod names;
pub(crate) mod parents;
pub(crate) mod pem;
pub(crate) mod registries;
