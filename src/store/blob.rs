//! A committed blob, open: its bytes for as long as somebody reads them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::lease::Lease;
use crate::oci::Digest;

/// An open blob. Clones share the file; while one lives, the blob is not evicted.
#[derive(Clone, Debug)]
pub struct Blob(Arc<Open>);

#[derive(Debug)]
struct Open {
    file: File,
    digest: Digest,
    length: u64,
    _lease: Lease,
}

impl Blob {
    pub(super) fn new(file: File, digest: Digest, length: u64, lease: Lease) -> Self {
        Self(Arc::new(Open { file, digest, length, _lease: lease }))
    }

    /// Its length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no caller asks; a length of 0 is a blob like any other")]
    pub fn len(&self) -> u64 {
        self.0.length
    }

    /// Its name.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// Reads at `at`, as `pread` does: possibly less than asked for, 0 at the end. May wait for the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.file.read_at(buffer, at)
    }

    /// The same for what is in memory already; `None` where it would wait for the disk. May be short in front
    /// of what is not in memory.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        try_read_at(&self.0.file, at, buffer)
    }
}

/// Reads what is in the page cache (`preadv2` with `RWF_NOWAIT`). A file system that does not know the flag is
/// read plainly: to wait for some of its reads beats a detour for all of them.
#[cfg(target_os = "linux")]
pub(super) fn try_read_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    loop {
        return match preadv2(file, &mut [io::IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.read_at(buffer, at).map(Some),
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Where there is no such flag, reads plainly.
#[cfg(not(target_os = "linux"))]
pub(super) fn try_read_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    file.read_at(buffer, at).map(Some)
}
