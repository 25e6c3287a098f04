//! Keeps what clients push: the bytes are staged and hashed on their way to the registry, and committed when it accepts them.
//!
//! Flow: a push's body passes through a [`StagedBody`](body::StagedBody), which hands a copy of each piece to a task of its own
//! (`staging`). That writes and hashes off the network task (`landing`). Between the requests of a chunked upload what has landed
//! waits under the upload's name (`sessions`). When the registry has accepted the content under a digest, [`Pushes`] compares
//! that with the hash of the staged bytes, commits them, and notes the link, the pusher's right and the tag. A tag is unknown
//! while it is written (`tag_write`), and what was deleted is forgotten (`deletions`). Until then staged bytes have a bounded
//! part of the cache (`room`).
//! Scope: what the cache learns from writes. Which request means what is told by `proxy/v2/push`.
//! Never: hold a push back for the disk's sake for longer than a moment; keep more than 2 MiB of one in memory; commit
//! bytes that do not have the digest that the registry accepted; take a 201 for a right of anybody else, or for one to other
//! content: who may write may not be one who may read.
//! Reading: OCI distribution-spec, "Push"; docs/threat-model.md, "Pushes".

pub(crate) mod body;
pub(crate) mod deletions;
pub(crate) mod landing;
pub(crate) mod pushes;
mod room;
mod sessions;
pub(crate) mod staging;
pub(crate) mod tag_write;
