//! What the catalog holds besides blobs: links, tags and pings.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::oci::{Accept, Digest, Repository, Tag};

/// How long a link lives without new proof.
pub(crate) const LINK_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Under which kind of path a digest was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// `/manifests/`
    Manifest,
    /// `/blobs/`
    Blob,
}

/// With whose right it was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Learned {
    /// Anybody has it.
    Anonymously,
    /// It was answered to somebody's credentials.
    WithCredentials,
}

/// A digest is known in a place: this registry has it in this repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The repository there.
    pub repository: Repository,
    /// The content.
    pub digest: Digest,
    /// As what it was served.
    pub content: Content,
    /// Its `Content-Type`, as the registry said it.
    pub media_type: Option<String>,
    /// With whose right.
    pub learned: Learned,
    /// When the registry last said so.
    pub proven: SystemTime,
}

/// What a tag was when it was last asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The repository there.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
    /// The class of the `Accept` that earned the answer.
    pub accept: Accept,
    /// What the tag is.
    pub digest: Digest,
    /// The answer's `Content-Type`.
    pub media_type: String,
    /// The manifest's length in bytes.
    pub size: u64,
    /// When the registry last said so.
    pub checked: SystemTime,
    /// With whose right.
    pub learned: Learned,
}

/// A registry's last answer to `GET /v2/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The status.
    pub status: u16,
    /// The headers that matter, in order. The caller leaves out what is secret.
    pub headers: Vec<(String, String)>,
    /// When it was answered.
    pub seen: SystemTime,
}

/// A blob, as the catalog has it. Times in microseconds since 1970, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BlobRow {
    pub(crate) id: i64,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) last_used: i64,
    pub(crate) proven: bool,
    pub(crate) pinned: bool,
    /// How much it is used, as the policy reckons it.
    pub(crate) heat: f64,
}

/// Where the scrub is, as the catalog keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScrubProgress {
    /// The row number of the last blob that was read; 0 between two passes.
    pub(crate) after: i64,
    /// When the last pass ended, in microseconds since 1970.
    pub(crate) ended: i64,
}
