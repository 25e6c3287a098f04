//! Answers questions about everything in the catalog: images, what they need, and what else needs that.
//!
//! Flow: a [`Survey`] has its own connection. The catalog does not know what manifests list; a survey reads them once
//! into temporary tables (`tables.rs`), on which recursive queries do the rest.
//! Scope: the commands of the operator, on threads that may block. Only `purge.rs` leads to changes.
//! Never: holds all images in memory. SQLite moves a table that outgrows its cache to a temporary file.
//! Reading: sqlite.org/lang_with.html; sqlite.org/tempfiles.html.

mod images;
mod purge;
mod scope;
mod shares;
mod survey;
mod tables;

pub use images::{CachedImage, Extent};
pub use purge::{Purge, Spared};
pub use scope::Scope;
pub use shares::Share;
pub use survey::{StoredBlob, Survey};
