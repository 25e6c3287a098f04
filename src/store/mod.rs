//! Blobs on disk: staged, committed, read, evicted; and the catalog of what is known about them.
//!
//! Flow: [`Store::stage`] makes a sparse file in `fills/`; a [`Staged`] is written at any offset and read as it
//! grows; [`Staged::commit`] syncs it, renames it to `blobs/<algorithm>/<hex>`, syncs the folder and tells the
//! catalog, in this order. [`Store::read`] opens a blob by its name and gives a [`Blob`], whose lease keeps
//! eviction away while it lives. The catalog (SQLite, one thread that writes) knows sizes, last uses, links,
//! tags and pings, and the checksums that every read of a blob is checked against. A thread evicts what earns least
//! when the folder nears its limit or the file system goes under its own, and tries an ill disk again; one goes over
//! the folder once after an unclean end; one judges blobs in which a read found damage, and scrubs. A fill that is
//! not finished is remembered ([`Staged::remember`]) and taken up later ([`Store::resume`]).
//!
//! Scope: one folder, held by one process. It knows digests, registries and repositories as words, and nothing of
//! HTTP, of permissions or of where bytes come from.
//!
//! Never: publish what was not synced; give out a byte whose checksum does not match; serve a blob that the catalog
//! does not know before it was hashed; evict what is pinned or being read; list or stat the blobs at start; wait for
//! the disk on a network task, except to open a file by its name. All durable file operations go through `disk.rs`, so that a test can cut the power anywhere.
//!
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
mod health;
mod layout;
mod ledger;
mod lock;
mod operate;
mod store;

pub use care::scrub::ScrubPace;
pub use catalog::{CachedImage, Extent, Purge, Scope, Share, Spared, StoredBlob, Survey};
pub use catalog::{Catalog, Content, Learned, Link, Ping, TagEntry};
pub use checksums::{Checksums, Damaged};
pub use config::Config;
pub use content::blob::Blob;
pub use content::staged::{Partial, Staged};
pub use content::verify::Verification;
pub use disk::{Disk, DiskStep, Witness};
pub use error::Error;
pub use health::DiskFault;
pub use ledger::StoreUsage;
pub use operate::Pinned;
pub use store::Store;
