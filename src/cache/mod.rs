//! What may be answered from memory and disk, and what must be asked: lookup, fill, tags, grants.

mod config;

pub use config::{TagRule, TagsConfig};
