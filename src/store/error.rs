//! What can go wrong in the store, with the path it went wrong at.

use std::io;
use std::path::{Path, PathBuf};

use crate::host;
use crate::oci::Digest;

/// A failure of the store. [`Error::Full`] and [`Error::Unproven`] are for the caller to act on; the others
/// are for a person to read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error(
        "the cache folder {} is held by another pullthrough, a server or a `pullthrough cache` command: stop that one \
         or wait for its end, or give this one a cache.dir of its own",
        folder.display()
    )]
    Held {
        /// The cache folder.
        folder: PathBuf,
    },
    /// The folder holds something that this program did not make.
    #[error("{} is no cache of pullthrough ({found}): give cache.dir an empty folder", folder.display())]
    Foreign {
        /// The cache folder.
        folder: PathBuf,
        /// What tells.
        found: String,
    },
    /// The folder was written by a later version.
    #[error(
        "the catalog {} has format {found}, and this version knows formats up to {known}: \
         use the later version, or give cache.dir an empty folder",
        path.display()
    )]
    Newer {
        /// The catalog's file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The latest format that this version knows.
        known: i64,
    },
    /// There is no room, neither free nor to be made: the pull goes on uncached.
    #[error("no room in the cache for {digest}")]
    Full {
        /// The content.
        digest: Digest,
    },
    /// The catalog does not know the blob: it must be hashed first, by [`Store::prove`](super::Store::prove)
    /// or [`Store::find`](super::Store::find).
    #[error("the catalog does not know {digest}: it is to be hashed before its first use")]
    Unproven {
        /// The content.
        digest: Digest,
    },
    /// A commit of another length than what was written.
    #[error("{digest} should have {expected} bytes, and {found} were staged")]
    Length {
        /// The content.
        digest: Digest,
        /// Bytes that the commit was told.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// A write to, or a commit of, what was committed already or failed to: it would change a published blob.
    #[error("{digest} is sealed: it was committed, or its commit failed")]
    Sealed {
        /// The content.
        digest: Digest,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// As many files of content are open as may be.
    #[error("{limit} files of the cache are open, and no more may be")]
    Files {
        /// How many.
        limit: usize,
    },
    /// This process has no file descriptor left for the catalog.
    #[error("the catalog cannot {doing}: the proxy has no free file descriptor (LimitNOFILE=)")]
    NoFile {
        /// The operation, as a verb.
        doing: &'static str,
    },
    /// The catalog has more to do than it gets done.
    #[error("the catalog is too busy")]
    Busy,
    /// SQLite failed.
    #[error("the catalog cannot {doing}")]
    Catalog {
        /// The operation, as a verb.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.into(), source: source.into() }
    }

    /// Whether this process has no file descriptor left, or none for content: another time it has.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Files { .. } | Self::NoFile { .. } => true,
            Self::Io { source, .. } => host::is_exhausted(source),
            _ => false,
        }
    }

    /// Whether the file was not there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the file system, or a quota on it, had no room.
    pub(crate) fn is_no_room(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}
