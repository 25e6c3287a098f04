//! This room fetches the bytes of a fill: upstream requests, and the writes that land what they bring.
//!
//! Flow: the `driver` starts lanes until nothing is missing. A `lane` is one upstream request with a claim on bytes; its
//! `writer` puts what arrives into the staged file, off the network task. The driver judges how each lane ended: it asks for
//! the rest (`shape` says how), backs off, turns to the next source, or gives the fill up. `alone` measures whether a fill that nobody waits for
//! still brings enough.
//! Scope: from a claim to landed bytes. `plan` decides the claims; `task` verifies and commits the content.
//! Never: a lane that is aborted while it writes; a claim released before its writes ended; memory without bound for a slow disk.

pub(crate) mod alone;
pub(crate) mod driver;
pub(crate) mod failure;
pub(crate) mod lane;
pub(crate) mod shape;
pub(crate) mod writer;
