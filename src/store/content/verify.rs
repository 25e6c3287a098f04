//! Verifies blobs by their full digest: on first use, on demand, by the scrub, and after a read found damage.
//!
//! The checksums of a blob that is right are recorded; one that is wrong loses its name. Between the opening and the
//! verdict the name may have got another file, which is not touched.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::blob::{BlobOwner, try_read_at};
use super::blobs::Blobs;
use super::damage::Inode;
use crate::oci::{Digest, Hasher};
use crate::store::catalog::Change;
use crate::store::checksums::{Checksums, Sums};
use crate::store::health::is_disk_failure;
use crate::store::{Blob, Error, patience};

const CHUNK: usize = 256 << 10;

/// The result of verifying a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// There is no such blob.
    Absent,
    /// Its content matches its digest.
    Good,
    /// It did not match, and was dropped.
    Damaged,
}

/// The result of hashing a file.
enum Finding {
    Right(Sums),
    Wrong,
    BrokenOff,
}

impl Blobs {
    /// Opens a blob by its name. A blob that the catalog does not know is hashed first, however long that takes.
    pub(crate) fn prove(self: &Arc<Self>, digest: &Digest) -> Result<Option<Blob>, Error> {
        self.read(digest, u64::MAX)
    }

    /// Hashes a file and records its checksums; `None` if it does not match its digest and was dropped.
    pub(crate) fn hash_opened(&self, file: &File, digest: &Digest, length: u64) -> Result<Option<Sums>, Error> {
        let finding = self.hash(file, digest, &mut |_| true)?;
        let Finding::Right(sums) = finding else {
            self.drop_wrong(file, digest)?;
            return Ok(None);
        };
        self.record(file, digest, length, &sums)?;
        Ok(Some(sums))
    }

    /// Hashes a blob and calls `each` after every chunk with the number of bytes read, which returns whether to
    /// continue. An interrupted one counts as [`Verification::Good`].
    pub(crate) fn verify(&self, digest: &Digest, each: &mut dyn FnMut(u64) -> bool) -> Result<Verification, Error> {
        let Some((file, length)) = self.open(digest)? else { return Ok(Verification::Absent) };
        match self.hash(&file, digest, each)? {
            Finding::BrokenOff => Ok(Verification::Good),
            Finding::Right(sums) => {
                let is_known = self.lookup(digest, length).is_some();
                if !is_known || self.recorded(digest, length).as_ref() != Some(&sums) {
                    self.record(&file, digest, length, &sums)?;
                }
                Ok(Verification::Good)
            }
            Finding::Wrong => {
                self.drop_wrong(&file, digest)?;
                Ok(Verification::Damaged)
            }
        }
    }

    /// Verifies a suspect. One that cannot be dropped stays a suspect, which is not served.
    pub(crate) fn verify_suspect(&self, digest: &Digest) {
        let Some(suspect) = self.suspects.inode(digest) else { return };
        let verified = self.open_any(digest).and_then(|opened| match opened {
            Some((file, length, inode)) if inode == suspect => self.hash_opened(&file, digest, length),
            _ => Ok(None), // it is gone already
        });
        match verified {
            Ok(sums) => {
                if sums.is_some() {
                    tracing::warn!(%digest, "the digest of a suspected blob is right: its checksums were wrong and were recorded again");
                }
                self.suspects.clear_one(digest, suspect);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                let (registry, repository) = self.place(digest).unzip();
                tracing::error!(error, registry, repository, %digest, "cannot drop a damaged blob");
            }
        }
    }

    /// A registry and a repository that have the content, for the log.
    fn place(&self, digest: &Digest) -> Option<(String, String)> {
        self.catalog.place(digest)
    }

    fn record(&self, file: &File, digest: &Digest, length: u64, sums: &Sums) -> Result<(), Error> {
        let _open = self.while_open()?;
        let _stripe = self.stripe(digest);
        if self.is_named(file, digest)? {
            let at = self.catalog.stamp();
            self.catalog.submit(Change::Proven { digest: *digest, size: length, at, sums: sums.clone() });
            self.remember(digest, length, sums);
        }
        Ok(())
    }

    fn drop_wrong(&self, file: &File, digest: &Digest) -> Result<(), Error> {
        let _open = self.while_open()?;
        let _stripe = self.stripe(digest);
        if self.is_named(file, digest)? {
            let is_suspect = self.suspects.inode(digest).is_some();
            self.drop_name(digest)?;
            if !is_suspect {
                self.suspects.count_one();
                let (registry, repository) = self.place(digest).unzip();
                tracing::error!(registry, repository, %digest, "dropped a blob whose content does not match its digest");
            }
        }
        Ok(())
    }

    /// Whether the name still leads to this file. The caller holds the stripe.
    fn is_named(&self, file: &File, digest: &Digest) -> Result<bool, Error> {
        let path = self.layout.blob(digest);
        let metadata = file.metadata().map_err(|source| Error::io("stat", &path, source))?;
        Ok(path.symlink_metadata().is_ok_and(|named| Inode::of(&named) == Inode::of(&metadata)))
    }

    /// A disk that cannot read the content does not have it.
    fn hash(&self, file: &File, digest: &Digest, each: &mut dyn FnMut(u64) -> bool) -> Result<Finding, Error> {
        match hash(file, digest, each) {
            Err(error) if is_disk_failure(&error) => Ok(Finding::Wrong),
            other => other.map_err(|source| Error::io("read", &self.layout.blob(digest), source)),
        }
    }
}

impl BlobOwner for Blobs {
    fn sums(&self, file: &File, digest: &Digest, length: u64) -> Result<Option<Sums>, Error> {
        if let Some(sums) = self.recorded(digest, length) {
            return Ok(Some(sums));
        }
        self.hash_opened(file, digest, length)
    }

    fn suspect(&self, digest: &Digest, inode: Inode, at: u64) {
        let is_named = self.layout.blob(digest).symlink_metadata().is_ok_and(|named| Inode::of(&named) == inode);
        self.opened.forget(digest);
        if is_named && self.suspects.add(digest, inode) {
            let (registry, repository) = self.place(digest).unzip();
            tracing::error!(registry, repository, %digest, at, "a blob is damaged on the disk: it is no longer served and will be dropped");
        }
    }

    fn hung(&self, digest: &Digest) -> BoxFuture<'static, ()> {
        Box::pin(patience::hung(self.disk.health(), &self.layout.blob(digest)))
    }

    fn closed(&self, digest: &Digest) {
        self.opened.closed(digest);
    }
}

fn hash(file: &File, digest: &Digest, each: &mut dyn FnMut(u64) -> bool) -> io::Result<Finding> {
    let (mut hasher, mut sums) = (Hasher::new(digest.algorithm()), Checksums::new());
    let mut buffer = vec![0; CHUNK];
    loop {
        let at = sums.len();
        let count = read(file, at, &mut buffer)?;
        if count == 0 {
            let is_right = hasher.finish() == *digest;
            return Ok(if is_right { Finding::Right(sums.finish()) } else { Finding::Wrong });
        }
        hasher.update(&buffer[..count]);
        sums.update(&buffer[..count]);
        if !each(count as u64) {
            return Ok(Finding::BrokenOff);
        }
    }
}

/// Leaves the page cache as it was: keeps the pages that were there, and drops those that the read added.
fn read(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    if let Some(count) = try_read_at(file, at, buffer)? {
        return Ok(count);
    }
    let count = file.read_at(buffer, at)?;
    #[cfg(target_os = "linux")]
    if let Some(length) = std::num::NonZeroU64::new(count as u64) {
        let _ = rustix::fs::fadvise(file, at, Some(length), rustix::fs::Advice::DontNeed); // only advice
    }
    Ok(count)
}
