//! Tells which registry a mirror's client means: pure, without I/O.
//!
//! Flow: the configuration's `mirror:` section (`config`, whose keys and values `name` parses) becomes a table (`names`).
//! A request's host, `ns` and path are looked up there (`resolve`), in the contract's order: `ns`; a host of `mirror.names`;
//! a path that begins with a configured registry's host; a path of `mirror.names`; `mirror.default`. What comes out is
//! one target or several in order, each a registry's own host and the judged route with the registry's own repository.
//! `memory` knows which member of a group had a content; `written` leads back from a registry's repository to a client's name.
//! Scope: names. The requests that are made of them are in the mirror's room.
//! Never: a host that is no configured registry becomes a target, whatever a client writes; a second parser of paths.
//! Reading: distribution-spec, "Registry Proxying" (`ns`).

pub(crate) mod config;
pub(crate) mod memory;
pub(crate) mod name;
pub(crate) mod names;
pub(crate) mod resolve;
pub(crate) mod written;
