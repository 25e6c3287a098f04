//! Stores blobs on disk: stages, commits, reads and evicts them, and keeps a catalog of what is known about them.
//!
//! Flow: [`Store::stage`] creates a sparse file in `fills/`; a [`Staged`] is written at any offset and read as it
//! grows; [`Staged::commit`] syncs it, renames it to `blobs/<algorithm>/<hex>`, syncs the folder and informs the
//! catalog, in this order. [`Store::read`] opens a blob by its name and returns a [`Blob`], whose lease prevents
//! eviction while it lives. An unfinished fill is recorded ([`Staged::remember`]) and continued later
//! ([`Store::resume`]). Folders: `care` runs the three threads (evict, scrub, rebuild) and imports `content`, the
//! files, which imports `catalog`, the SQLite database.
//!
//! Scope: one folder, held by one process. It treats digests, registries and repositories as names, and knows nothing
//! of HTTP, of permissions or of where bytes come from.
//! Never: publishes bytes that were not synced; returns a byte whose checksum does not match; serves a blob that the
//! catalog does not know before it was hashed; evicts a blob that is pinned or being read; lists the blobs at start;
//! waits for the disk on a network task. All durable operations go through
//! `disk.rs`.
//! Reading: OCI image-spec, "Image Layout"; `docs/format.md`; sqlite.org/wal.html.

mod care;
mod catalog;
mod checksums;
mod config;
mod content;
mod disk;
mod error;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/landed.rs"]
pub(crate) mod fuzzing;
mod handle;
mod hang;
mod health;
mod layout;
mod ledger;
mod lock;
mod operate;
mod patience;

pub use care::scrub::ScrubPace;
pub use catalog::{CachedImage, Extent, Purge, Scope, Share, Spared, StoredBlob, Survey};
pub use catalog::{Catalog, Content, Learned, Link, ListEntry, Ping, TagEntry};
pub use checksums::{Checksums, Damaged};
pub use config::Config;
pub use content::blob::Blob;
pub use content::staged::{Partial, Staged};
pub use content::verify::Verification;
pub use disk::{Disk, DiskStep, Witness};
pub use error::Error;
pub use handle::Store;
pub use health::DiskFault;
pub use ledger::StoreUsage;
pub use operate::Pinned;
