//! This room decides which bytes of a content are fetched next, and by how many lanes; it is pure: no I/O, no clock.
//!
//! Flow: `plan` holds what has landed (`extents`), which lane fetches which bytes (`claims`), where readers are and want to be
//! (`demand`), and how far the fill is (`phase`). `parallelism` measures how many lanes bring more than one.
//! Scope: numbers of bytes. The driver and the lanes in `transfer` act on its answers; `Fill` holds the lock around it.
//! Never: two lanes with a claim on the same byte; the last byte of a whole handed out before its digest matched; a reader
//! that waits for bytes which no lane will bring.
//! Reading: docs/architecture.md, "A miss"; RFC 9110 section 14 (range requests).

pub(crate) mod claims;
pub(crate) mod demand;
pub(crate) mod extents;
pub(crate) mod parallelism;
pub(crate) mod phase;
pub(crate) mod plan;
