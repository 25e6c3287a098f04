//! Collects the mistakes of a configuration, each with its place, its key and what was expected.
//!
//! Flow: `decode` and the checks of `judge` report a mistake at a key path ([`report::Report`]). `phrase` turns the YAML
//! library's message into a sentence, `cuts` maps the path to the path in the file, and `locate` finds the line there. A
//! key that a variable or a flag has set is reported with their name. At the end all mistakes are returned at once
//! ([`mistake::Mistakes`]), sorted by place.
//! Scope: texts and places. `decode` and `judge` decide what counts as a mistake.
//! Never: stop at the first mistake; report more than 100; repeat a secret.
//! Reading: docs.rs/serde_path_to_error.

pub(crate) mod cuts;
pub(crate) mod locate;
pub(crate) mod mistake;
pub(crate) mod phrase;
pub(crate) mod report;
