//! Names what went wrong in the store, and at which path.

use std::io;
use std::path::{Path, PathBuf};

use crate::host;
use crate::oci::Digest;

/// A failure of the store. The caller acts on [`Error::Full`] and [`Error::Unproven`]; the others are for people to
/// read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error(
        "the cache directory {} is in use by another pullthrough, a server or a `pullthrough cache` command: stop it \
         or wait until it ends, or give this one its own cache.dir",
        folder.display()
    )]
    Held {
        /// The cache directory.
        folder: PathBuf,
    },
    /// The folder holds something that this program did not make.
    #[error("{} is not a cache of pullthrough ({found}): set cache.dir to an empty directory", folder.display())]
    Foreign {
        /// The cache directory.
        folder: PathBuf,
        /// What shows that.
        found: String,
    },
    /// The folder was written by a later version.
    #[error(
        "the catalog {} has format {found}, and this version knows formats up to {known}: \
         use the later version, or set cache.dir to an empty directory",
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
    /// There is no space and none can be freed: the pull continues uncached.
    #[error("the cache has no space for {digest}")]
    Full {
        /// The content.
        digest: Digest,
    },
    /// The content alone is larger than the cache may be. That is no fault: it is passed through.
    #[error("{digest} has {length} bytes or more, and the cache takes at most {limit} (cache.max_size)")]
    TooLarge {
        /// The content.
        digest: Digest,
        /// How many bytes it has at least.
        length: u64,
        /// `cache.max_size` in bytes.
        limit: u64,
    },
    /// The catalog does not know the blob: it must be hashed first, by [`Store::prove`](super::Store::prove)
    /// or [`Store::find`](super::Store::find).
    #[error("the catalog does not know {digest}: it must be hashed before its first use")]
    Unproven {
        /// The content.
        digest: Digest,
    },
    /// A commit names another length than the staged file has.
    #[error("{digest} should have {expected} bytes, and {found} were staged")]
    Length {
        /// The content.
        digest: Digest,
        /// The bytes that the commit expected.
        expected: u64,
        /// The bytes in the file.
        found: u64,
    },
    /// The staged file was committed already, or its commit failed: a write would change a published blob.
    #[error("{digest} is sealed: it was committed, or its commit failed")]
    Sealed {
        /// The content.
        digest: Digest,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// As many files of content are open as are allowed.
    #[error("{limit} files of the cache are open, which is the limit")]
    Files {
        /// The limit.
        limit: usize,
    },
    /// This process has no file descriptor left for the catalog.
    #[error("the catalog cannot {doing}: the proxy has no free file descriptor (LimitNOFILE=)")]
    NoFile {
        /// The operation, as a verb.
        doing: &'static str,
    },
    /// The queue of the catalog is full.
    #[error("the catalog is too busy")]
    Busy,
    /// SQLite failed.
    #[error("the catalog cannot {doing}")]
    Catalog {
        /// The operation, as a verb.
        doing: &'static str,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.into(), source: source.into() }
    }

    /// Whether this process has no file descriptor left, or none for content. A later try may succeed.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Files { .. } | Self::NoFile { .. } => true,
            Self::Io { source, .. } => host::is_exhausted(source),
            _ => false,
        }
    }

    /// Whether the file did not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the file system, or a quota on it, had no space.
    pub(crate) fn is_no_room(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}
