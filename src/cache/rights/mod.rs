//! Decides who may read what, by what the registries themselves have said.
//!
//! Flow: [`Rights`](rights::Rights) takes a [`PlaceReader`](reader::PlaceReader), a principal at a place. Three memories answer it:
//! grants (what a principal has proven, in memory only), publics (which places anybody may read) and links (which content
//! is in which place). A registry's answer comes back in as `delivered`, `vouched`, `open`, `close` or `end`, dated by when
//! it was asked. `witnesses` are what a right was last proven by: while one of them is given, a refusal of something else ends
//! nothing.
//! Beside them, [`Detours`](detours::Detours) tell which places led to other registries' repositories, for the rules above.
//! Scope: permission. Bytes, tags and the asking itself are the lookups' business, one floor up.
//! Never: take a digest or a link for a permission; let an answer outlive a later no; write a principal to disk.
//! Reading: docs/credentials.md; docs/threat-model.md; distribution-spec, "Token Authentication".

pub(crate) mod asked_at;
mod deleted;
pub(crate) mod detours;
pub(crate) mod grants;
pub(crate) mod links;
pub(crate) mod place;
pub(crate) mod principal;
pub(crate) mod publics;
pub(crate) mod reader;
pub(crate) mod rights;
pub(crate) mod trust;
pub(crate) mod witnesses;
