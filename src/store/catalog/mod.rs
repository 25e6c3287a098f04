//! Catalogs the blobs in SQLite: sizes, last uses, links, tags with their history, lists, pings.
//!
//! Flow: a [`Catalog`] (`handle.rs`) sends commands to one thread (`writer.rs`) that owns the connection. Changes are
//! applied in order inside an open transaction (`batch.rs`) that is committed after a moment, so that lookups, which
//! take the same way, see every earlier change. A change that finds the queue full is dropped and learned again, except
//! a withdrawal of a right: it waits (`queue.rs`). Callers that must not wait for that thread (the first read of a
//! blob, the scan for victims) use a read-only connection (`reader.rs`). `inventory` answers questions about
//! everything.
//!
//! Never: is on the path of a hit; is trusted for bytes (only a digest is); is a reason not to serve. A lost or damaged
//! catalog is moved aside and rebuilt from the blobs, without links, types, tags or pings.
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
mod lists;
mod open_questions;
mod place;
pub(crate) mod query;
pub(crate) mod queue;
mod reader;
mod schema;
mod writer;

pub(crate) use change::Change;
pub(crate) use entry::{BlobRow, ScrubProgress};
pub use entry::{Content, Learned, Link, ListEntry, Ping, TagEntry};
pub use handle::Catalog;
#[cfg(test)]
pub(crate) use heat::{heat, heated};
pub use inventory::{CachedImage, Extent, Purge, Scope, Share, Spared, StoredBlob, Survey};
pub(crate) use key::micros;
pub(crate) use reader::CatalogReader;
