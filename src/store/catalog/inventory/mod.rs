//! Questions about everything that the catalog holds at a moment: images, what they need, who else needs it.
//!
//! Flow: a [`Survey`] has a connection of its own. What manifests list is not in the catalog; it is read from them
//! once and kept in temporary tables (`tables.rs`), on which recursive queries do the rest.
//! Scope: for the operator's commands, on threads that may wait. Only `purge.rs` leads to a change, by notes.
//! Never: hold all images in memory. SQLite moves a table that outgrows its cache to a temporary file.
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
