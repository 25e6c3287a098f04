//! Defines the records of the catalog: blobs, links, tags, pings and the position of the scrub.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::oci::{Accept, Digest, Repository, Tag};

/// How long a link lives without new proof.
pub(crate) const LINK_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The kind of path under which a digest was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// `/manifests/`
    Manifest,
    /// `/blobs/`
    Blob,
}

/// The right by which something was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Learned {
    /// Without credentials: anyone has it.
    Anonymously,
    /// With credentials of a client.
    WithCredentials,
}

/// A digest in a place: this registry has it in this repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The repository there.
    pub repository: Repository,
    /// The content.
    pub digest: Digest,
    /// The kind of path that served it.
    pub content: Content,
    /// The registry's `Content-Type`.
    pub media_type: Option<String>,
    /// The right by which it was learned.
    pub learned: Learned,
    /// When the registry last confirmed it.
    pub proven: SystemTime,
}

/// The digest of a tag when it was last checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The repository there.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
    /// The class of the `Accept` that got the answer.
    pub accept: Accept,
    /// The digest.
    pub digest: Digest,
    /// The answer's `Content-Type`.
    pub media_type: String,
    /// The manifest's length in bytes.
    pub size: u64,
    /// When the registry last confirmed it.
    pub checked: SystemTime,
    /// The right by which it was learned.
    pub learned: Learned,
}

/// A registry's last answer to `GET /v2/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The status.
    pub status: u16,
    /// The relevant headers, in order. The caller leaves out secrets.
    pub headers: Vec<(String, String)>,
    /// When it was answered.
    pub seen: SystemTime,
}

/// A registry's last list for a query in a repository: of its tags, or of what refers to a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The repository there.
    pub repository: Repository,
    /// The query: path and parameters.
    pub target: Arc<str>,
    /// The relevant headers, in order. The caller leaves out secrets.
    pub headers: Vec<(String, String)>,
    /// The list as it came.
    pub body: Bytes,
    /// When it was asked for.
    pub asked: SystemTime,
}

/// A blob in the catalog. Times are microseconds since 1970, sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BlobRow {
    pub(crate) id: i64,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) last_used: i64,
    pub(crate) proven: bool,
    pub(crate) pinned: bool,
    /// How much it is used (`heat.rs`).
    pub(crate) heat: f64,
}

/// The position of the scrub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScrubProgress {
    /// The row number of the last blob that was read; 0 between two passes.
    pub(crate) after: i64,
    /// When the last pass ended, in microseconds since 1970.
    pub(crate) ended: i64,
}
