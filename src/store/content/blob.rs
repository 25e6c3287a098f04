//! Reads an open, committed blob, and checks every byte that it returns.
//!
//! A read of whole granules goes straight into its destination and is checked there; any other read goes through a
//! buffer. Nothing is returned from a granule whose checksum does not match.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;

use super::damage::Inode;
use super::lease::Lease;
use crate::host::Taken;
use crate::oci::Digest;
use crate::store::Error;
use crate::store::checksums::{Damaged, GRANULE, Sums};
use crate::store::health::is_disk_failure;

/// The store of an open blob, as the blob calls it.
pub(crate) trait BlobOwner: Send + Sync {
    /// Returns the checksums of an open blob. A blob without recorded ones is hashed. `None` if it is damaged.
    fn sums(&self, file: &File, digest: &Digest, length: u64) -> Result<Option<Sums>, Error>;

    /// Reports that a read found damage in this file.
    fn suspect(&self, digest: &Digest, inode: Inode, at: u64);

    /// Ends when the disk has let a read that begins now wait for too long.
    fn hung(&self, digest: &Digest) -> BoxFuture<'static, ()>;

    /// Reports that the blob's last handle is gone.
    fn closed(&self, digest: &Digest);
}

/// An open blob. All its readers share one file, and it is not evicted while one of them lives.
#[derive(Clone)]
pub struct Blob(Arc<OpenBlob>);

/// A blob's file.
pub(crate) struct OpenBlob {
    owner: Arc<dyn BlobOwner>,
    file: File,
    digest: Digest,
    length: u64,
    /// Loaded by the first read that may wait.
    sums: OnceLock<Sums>,
    _lease: Lease,
    _permit: Taken,
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Never,
    May,
}

impl Blob {
    pub(crate) fn of(open: Arc<OpenBlob>) -> Self {
        Self(open)
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

    /// Reads checked bytes at `at`: possibly fewer than requested, and 0 at the end only. Reads of 64 KiB at multiples
    /// of 64 KiB are the cheapest; continuing after a short read leads to them. May wait for the disk.
    ///
    /// # Errors
    /// [`Damaged`] inside an [`io::Error`] (see [`Damaged::of`]): the blob cannot be read from `at` on, new readers no longer
    /// find it, and it is dropped. Else the error of the system.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let open = &*self.0;
        let sums = match open.sums.get() {
            Some(sums) => sums,
            None => {
                let sums = open.owner.sums(&open.file, &open.digest, open.length).map_err(io::Error::other)?;
                let Some(sums) = sums else { return Err(open.damaged(at)) };
                open.sums.get_or_init(|| sums)
            }
        };
        open.read(sums, Wait::May, at, buffer).map(Option::unwrap_or_default)
    }

    /// Ends when the disk has let a read that begins now wait for too long.
    pub fn hung(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.owner.hung(&self.0.digest)
    }

    /// Reads the whole blob, checked; `None` if it is longer than `limit` bytes. May wait for the disk.
    ///
    /// # Errors
    /// As [`Blob::read_at`].
    pub fn read_all(&self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = usize::try_from(self.len()).ok().filter(|length| *length <= limit) else { return Ok(None) };
        let mut bytes = vec![0; length];
        let mut at = 0;
        while at < length {
            match self.read_at(at as u64, &mut bytes[at..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => at += read,
            }
        }
        Ok(Some(bytes))
    }

    /// As [`Blob::read_at`], for bytes that are in memory already. Returns `None` where it would wait for the disk, and
    /// may be short before such bytes.
    ///
    /// # Errors
    /// As [`Blob::read_at`].
    pub fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.sums.get() {
            Some(sums) => self.0.read(sums, Wait::Never, at, buffer),
            None => Ok(None),
        }
    }
}

impl OpenBlob {
    /// Wraps a file of this content and length. It owns its `lease` and its `permit` among the open files.
    pub(crate) fn new(
        owner: Arc<dyn BlobOwner>,
        digest: &Digest,
        (file, length): (File, u64),
        sums: Option<Sums>,
        lease: Lease,
        permit: Taken,
    ) -> Self {
        let sums = sums.map_or_else(OnceLock::new, OnceLock::from);
        Self { owner, file, digest: *digest, length, sums, _lease: lease, _permit: permit }
    }

    fn read(&self, sums: &Sums, wait: Wait, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let end = self.length.min(at.saturating_add(buffer.len() as u64));
        if at >= end {
            return Ok(Some(0));
        }
        let whole_end = if end == self.length { end } else { end - end % GRANULE };
        if at.is_multiple_of(GRANULE) && whole_end > at {
            self.read_whole(sums, wait, at, &mut buffer[..span(at, whole_end)])
        } else {
            self.read_part(sums, wait, at, &mut buffer[..span(at, end)])
        }
    }

    /// Reads whole granules in place. Returns those before the first damaged one.
    fn read_whole(&self, sums: &Sums, wait: Wait, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let one = buffer.len().min(span(0, GRANULE));
        let count = match self.fetch(wait, at, buffer) {
            // The disk fails somewhere in it, perhaps not in the first granule.
            Err(error) if is_disk_failure(&error) => match self.fetch(wait, at, &mut buffer[..one]) {
                Err(error) if is_disk_failure(&error) => return Err(self.damaged(at)),
                other => other?,
            },
            other => other?,
        };
        let Some(count) = count else { return Ok(None) };
        // An incomplete granule cannot be checked.
        let count = if count == buffer.len() { count } else { count - count % span(0, GRANULE) };
        if count == 0 {
            return if wait == Wait::Never { Ok(None) } else { Err(self.damaged(at)) };
        }
        let mut good = 0;
        for (granule, bytes) in (at / GRANULE..).zip(buffer[..count].chunks(span(0, GRANULE))) {
            if !sums.is_good(granule, bytes) {
                break;
            }
            good += bytes.len();
        }
        if good == 0 { Err(self.damaged(at)) } else { Ok(Some(good)) }
    }

    /// Reads from the middle of a granule, or less than one.
    fn read_part(&self, sums: &Sums, wait: Wait, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let start = at - at % GRANULE;
        let mut granule = [0; GRANULE as usize];
        let granule = &mut granule[..span(start, self.length.min(start + GRANULE))];
        match self.read_whole(sums, wait, start, granule) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(if Damaged::of(&error).is_some() { self.damaged(at) } else { error }),
        }
        let part = &granule[span(start, at)..];
        let count = part.len().min(buffer.len());
        buffer[..count].copy_from_slice(&part[..count]);
        Ok(Some(count))
    }

    fn fetch(&self, wait: Wait, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if wait == Wait::Never {
            return try_read_at(&self.file, at, buffer);
        }
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], at + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break, // check what is there first
                Err(error) => return Err(error),
            }
        }
        Ok(Some(done))
    }

    fn damaged(&self, at: u64) -> io::Error {
        if let Ok(metadata) = self.file.metadata() {
            self.owner.suspect(&self.digest, Inode::of(&metadata), at);
        }
        io::Error::new(io::ErrorKind::InvalidData, Damaged { digest: self.digest, at })
    }
}

impl Drop for OpenBlob {
    fn drop(&mut self) {
        self.owner.closed(&self.digest);
    }
}

/// The distance in bytes, which is never more than a buffer holds.
fn span(from: u64, to: u64) -> usize {
    usize::try_from(to - from).unwrap_or(usize::MAX)
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Blob").field(&self.0.digest).field(&self.0.length).finish()
    }
}

/// Reads from the page cache (`preadv2` with `RWF_NOWAIT`). A file system that does not know the flag is read plainly:
/// waiting for some of its reads beats a detour for all of them.
#[cfg(target_os = "linux")]
pub(crate) fn try_read_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
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

/// Reads plainly on systems without that flag.
#[cfg(not(target_os = "linux"))]
pub(crate) fn try_read_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    file.read_at(buffer, at).map(Some)
}
