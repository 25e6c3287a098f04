//! What is known about the blobs, in SQLite: sizes, last uses, links, tags with their history, pings.
//!
//! Flow: a [`Catalog`] sends orders to one thread (`writer.rs`) that owns the connection. Notes are applied in
//! order inside an open transaction (`batch.rs`) that is committed after a moment, so lookups, which go the same way, see
//! every earlier note. A note that finds the queue full is dropped and learned again, but for the few that take a
//! right back: those wait (`outbox.rs`). Who must not wait for that thread (a first read of a blob, the scan for victims) has a
//! read-only connection of its own (`reader.rs`).
//!
//! Never: on the hot path; trusted for bytes (only a digest is); a reason not to serve. A lost or damaged catalog
//! is moved aside and made anew from the blobs, without links, types, tags or pings.
//!
//! Reading: `docs/format.md`; sqlite.org/wal.html; sqlite.org/pragma.html, "synchronous".

mod batch;
pub(crate) mod change;
mod command;
mod entry;
mod handle;
mod heat;
mod inventory;
mod key;
mod place;
pub(crate) mod query;
pub(crate) mod queue;
mod reader;
mod schema;
mod writer;

pub(crate) use change::Change;
pub(crate) use entry::{BlobRow, ScrubProgress};
pub use entry::{Content, Learned, Link, Ping, TagEntry};
pub use handle::Catalog;
#[cfg(test)]
pub(crate) use heat::{heat, heated};
pub use inventory::{CachedImage, Extent, Purge, Scope, Share, Spared, StoredBlob, Survey};
pub(crate) use key::micros;
pub(crate) use reader::CatalogReader;
