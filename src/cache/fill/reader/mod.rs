//! This room serves the readers of a fill: those that wait for the content, and the digest reader.
//!
//! Flow: a `waiter` keeps the fill alive and can wait for its length or its end. A `follower` is a body that reads the staged
//! file as it grows, at its own pace. When the disk takes no more, a follower goes on by an upstream request of its own
//! (`detached`). `fill::hashing` reads the same file from the beginning and computes the digest and the store's checksums.
//! Scope: from landed bytes to a body. Bytes on their way out of the store are the business of `cache::body`.
//! Never: a reader that slows the fill; the last byte of a whole before the digest matched, in a detached reader either.

pub(crate) mod detached;
pub(crate) mod follower;
pub(crate) mod waiter;
