//! Moves bytes from files and upstreams into responses.
//!
//! Flow: a [`Pump`](pump::Pump) reads chunks of one file, from the page cache in place and from the disk on a blocking
//! thread, into buffers that are used again (`buffers`). Stored blobs and followers of fills read by it. A blob that
//! passes without being stored is hashed on its way ([`Passing`](verifying::Passing)).
//! Scope: bytes whose reader may have them. Who may is decided before.
//! Never: block a network task on the disk; let one reader's pace decide another's; give a client the last byte of a
//! content that is not verified.
//! Reading: docs/performance.md; docs/architecture.md.

pub(crate) mod buffers;
pub(crate) mod pump;
pub(crate) mod verifying;
