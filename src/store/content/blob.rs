//! A committed blob, open: its bytes, each checked, for as long as somebody reads them.
//!
//! Bytes are given out by granules: what is asked for in whole ones is read and checked where it should be, the
//! rest goes through a buffer. Nothing is given out of a granule whose checksum does not match.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use super::damage::Inode;
use super::lease::Lease;
use crate::host::Taken;
use crate::oci::Digest;
use crate::store::Error;
use crate::store::checksums::{Damaged, GRANULE, Sums};
use crate::store::health::is_disk_failure;

/// What an open blob asks of the store that it is from.
pub(crate) trait BlobOwner: Send + Sync {
    /// The checksums of an open blob, which the catalog should know; else it is hashed. `None` if it is damaged.
    fn sums(&self, file: &File, digest: &Digest, length: u64) -> Result<Option<Sums>, Error>;

    /// A read found damage in this file.
    fn suspect(&self, digest: &Digest, inode: Inode, at: u64);

    /// The blob's last handle is gone.
    fn closed(&self, digest: &Digest);
}

/// An open blob. All who read it share its file; while one of them lives, the blob is not evicted.
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

    /// Reads at `at` what was checked: possibly less than asked for, 0 at the end only. Cheapest in pieces of
    /// 64 KiB at multiples of it, as an answer of less than was asked for leads to. May wait for the disk.
    ///
    /// # Errors
    /// [`Damaged`] inside an [`io::Error`] (see [`Damaged::of`]): from `at` on the blob is not to be had here,
    /// new readers no longer find it, and it is dropped. Else what the system says.
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

    /// All of it, checked; `None` where it is longer than `limit` bytes. May wait for the disk.
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

    /// The same as [`Blob::read_at`] for what is in memory already; `None` where it would wait for the disk. May be short in front
    /// of what is not in memory.
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
    /// A file of so many bytes that has this content. Its `lease` and its `permit` among the open files go with it.
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

    /// Reads whole granules in place; of several, those in front of a damaged one are given out.
    fn read_whole(&self, sums: &Sums, wait: Wait, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let one = buffer.len().min(span(0, GRANULE));
        let count = match self.fetch(wait, at, buffer) {
            // Somewhere in it the disk fails: perhaps not in the first granule.
            Err(error) if is_disk_failure(&error) => match self.fetch(wait, at, &mut buffer[..one]) {
                Err(error) if is_disk_failure(&error) => return Err(self.damaged(at)),
                other => other?,
            },
            other => other?,
        };
        let Some(count) = count else { return Ok(None) };
        // A granule that is not all there cannot be judged.
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

    /// Reads from within a granule, or less than one.
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
                Err(_) if done > 0 => break, // what is there is judged first
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

/// From here to there, in bytes, which is no more than a buffer has.
fn span(from: u64, to: u64) -> usize {
    usize::try_from(to - from).unwrap_or(usize::MAX)
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Blob").field(&self.0.digest).field(&self.0.length).finish()
    }
}

/// Reads what is in the page cache (`preadv2` with `RWF_NOWAIT`). A file system that does not know the flag is
/// read plainly: to wait for some of its reads beats a detour for all of them.
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

/// Where there is no such flag, reads plainly.
#[cfg(not(target_os = "linux"))]
pub(crate) fn try_read_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    file.read_at(buffer, at).map(Some)
}
