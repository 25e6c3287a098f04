//! Keeps the content itself: staged files that grow, and committed blobs that are read.
//!
//! Flow: a fill writes a `Staged` (`staged.rs`). A commit gives it its name through `Blobs` (`blobs.rs`), which also
//! opens, removes and evicts blobs. A [`Blob`](blob::Blob) checks every granule that it reads. `open_blobs.rs` shares
//! one file among its readers, and `lease.rs` keeps eviction away from them. A read that finds damage reports a suspect
//! (`damage.rs`), which `verify.rs` hashes and drops. An unfinished fill is parked (`parked.rs`) with a map
//! (`partial.rs`).
//!
//! Scope: files and their names. It imports the catalog, and never `care`: the evictor reaches it as a `Space`.
//!
//! Never: takes another file of the same name for the one that was read (it compares inodes); removes a name without
//! its stripe; continues the bytes of another registry.
//!
//! Reading: `docs/format.md`, "Fills"; pread(2); preadv2(2), `RWF_NOWAIT`.

pub(crate) mod blob;
pub(crate) mod blobs;
pub(crate) mod damage;
pub(crate) mod lease;
pub(crate) mod open_blobs;
pub(crate) mod parked;
pub(crate) mod partial;
pub(crate) mod staged;
pub(crate) mod verify;
