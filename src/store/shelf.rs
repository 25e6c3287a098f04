//! The blobs by their names: opened, proven, published, removed, evicted.
//!
//! For each digest, one of publish, remove and evict happens at a time (a striped lock, taken on threads that may
//! wait), and the catalog hears of them in the order in which they happened. Opening takes no such lock.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use moka::sync::Cache;

use super::catalog::{Catalog, Note, Reader, Row};
use super::layout::Layout;
use super::lease::{Lease, Leases};
use super::ledger::{Charge, Ledger};
use super::lock::{exclusive, lock, shared};
use super::parking::Parking;
use super::{Blob, Disk, Error};
use crate::oci::{Digest, Hasher};

/// A blob of up to this many bytes is hashed where it is opened, which takes under a millisecond.
const HASH_AT_ONCE: u64 = 1 << 20;
/// How many digests are remembered as known to the catalog, so that a hit asks nobody.
const REMEMBERED: u64 = 64 * 1024;
const STRIPES: usize = 64;

/// The blobs and what is known of them.
pub(super) struct Shelf {
    pub(super) disk: Disk,
    pub(super) layout: Layout,
    pub(super) catalog: Catalog,
    pub(super) ledger: Arc<Ledger>,
    pub(super) leases: Arc<Leases>,
    pub(super) parking: Parking,
    reader: Reader,
    known: Cache<Digest, u64>,
    stripes: [Mutex<()>; STRIPES],
    stripe_of: RandomState,
    is_open: RwLock<bool>,
}

impl Shelf {
    pub(super) fn new(disk: Disk, layout: Layout, catalog: Catalog, ledger: Arc<Ledger>, parking: Parking) -> Self {
        Self {
            reader: catalog.reader(),
            disk,
            layout,
            catalog,
            ledger,
            leases: Arc::default(),
            parking,
            known: Cache::new(REMEMBERED),
            stripes: std::array::from_fn(|_| Mutex::default()),
            stripe_of: RandomState::new(),
            is_open: RwLock::new(true),
        }
    }

    /// Opens a blob by its name.
    pub(super) fn read(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let Some(lease) = self.leases.take(digest) else { return Ok(None) };
        let Some((file, length)) = self.open(digest)? else { return Ok(None) };
        if self.is_known(digest, length) {
            return Ok(Some(Blob::new(file, *digest, length, lease)));
        }
        if length > HASH_AT_ONCE {
            return Err(Error::Unproven { digest: *digest });
        }
        self.prove_opened(digest, file, length, lease)
    }

    /// The same, hashing first what the catalog does not know. Waits as long as that takes.
    pub(super) fn prove(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let Some(lease) = self.leases.take(digest) else { return Ok(None) };
        let Some((file, length)) = self.open(digest)? else { return Ok(None) };
        if self.is_known(digest, length) {
            return Ok(Some(Blob::new(file, *digest, length, lease)));
        }
        self.prove_opened(digest, file, length, lease)
    }

    /// Gives a staged, synced file of the right content its name. What is there already stays, if it is known.
    pub(super) fn publish(
        &self,
        staged: &Path,
        digest: &Digest,
        length: u64,
        mut charge: Charge,
    ) -> Result<Blob, Error> {
        let _open = self.while_open()?;
        let _alone = self.alone(digest);
        if let Some((file, found)) = self.open(digest)?
            && found == length
            && self.is_known(digest, length)
            && let Some(lease) = self.leases.take(digest)
        {
            self.disk.unlink(staged)?;
            return Ok(Blob::new(file, *digest, length, lease));
        }
        let path = self.layout.blob(digest);
        self.disk.rename(staged, &path)?;
        if let Err(error) = self.disk.sync_folder(&self.layout.folder(digest.algorithm())) {
            self.catalog.doubt(); // the name may last or not: the next walk will see
            return Err(error);
        }
        charge.become_bytes(length.cast_signed(), 1);
        let at = self.catalog.stamp();
        self.catalog.tell(Note::Stored { digest: *digest, size: length, at, charge: Some(charge) });
        self.known.insert(*digest, length);
        let absent = || Error::io("open", &path, std::io::ErrorKind::NotFound);
        let lease = self.leases.take(digest).ok_or_else(absent)?;
        let (file, length) = self.open(digest)?.ok_or_else(absent)?;
        Ok(Blob::new(file, *digest, length, lease))
    }

    /// Removes a blob and its links, even while it is read: readers keep the bytes.
    pub(super) fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let _open = self.while_open()?;
        let _alone = self.alone(digest);
        self.drop_name(digest)
    }

    /// Evicts a blob unless somebody reads it; whether it did.
    pub(super) fn evict(&self, row: &Row) -> Result<bool, Error> {
        let _alone = self.alone(&row.digest);
        let Some(_leaving) = self.leases.leave(&row.digest) else { return Ok(false) };
        self.known.invalidate(&row.digest);
        let was_there = self.disk.unlink(&self.layout.blob(&row.digest))?;
        let charge = self.ledger.charge(-row.size.cast_signed(), -1);
        self.catalog.tell(Note::Gone { digest: row.digest, charge: Some(charge) });
        if was_there {
            self.ledger.evictions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Tells the catalog of a file that lies among the blobs, if it still does.
    pub(super) fn adopt(&self, digest: &Digest) -> Result<(), Error> {
        let _alone = self.alone(digest);
        let Ok(metadata) = self.layout.blob(digest).symlink_metadata() else { return Ok(()) };
        if metadata.is_file() {
            let modified = metadata.mtime().saturating_mul(1_000_000);
            let at = modified.clamp(0, self.catalog.stamp());
            self.catalog.tell(Note::Found { digest: *digest, size: metadata.len(), at });
        }
        Ok(())
    }

    /// Tells the catalog that a blob is gone, if it is; whether it is.
    pub(super) fn forsake(&self, digest: &Digest) -> bool {
        let _alone = self.alone(digest);
        let gone = self.layout.blob(digest).symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        if gone {
            self.catalog.tell(Note::Gone { digest: *digest, charge: None });
        }
        gone
    }

    /// Refuses every later change, after those under way.
    pub(super) fn close(&self) {
        *exclusive(&self.is_open) = false;
    }

    /// Changes are allowed while this is kept.
    pub(super) fn while_open(&self) -> Result<RwLockReadGuard<'_, bool>, Error> {
        let open = shared(&self.is_open);
        if *open { Ok(open) } else { Err(Error::Closed) }
    }

    fn open(&self, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
        let path = self.layout.blob(digest);
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata().map_err(|source| Error::io("stat", &path, source))?;
        if !metadata.is_file() {
            return Err(Error::io("read as a file", &path, std::io::ErrorKind::InvalidData));
        }
        Ok(Some((file, metadata.len())))
    }

    /// Whether the catalog knows this blob as one whose content was verified.
    fn is_known(&self, digest: &Digest, length: u64) -> bool {
        if self.known.get(digest) == Some(length) {
            return true;
        }
        // A catalog that cannot say anything knows nothing: then the blob is hashed.
        let is_known = matches!(self.reader.row(digest), Ok(Some(row)) if row.proven && row.size == length);
        if is_known {
            self.known.insert(*digest, length);
        }
        is_known
    }

    fn prove_opened(&self, digest: &Digest, file: File, length: u64, lease: Lease) -> Result<Option<Blob>, Error> {
        let path = self.layout.blob(digest);
        let failed = |source| Error::io("read", &path, source);
        let is_right = hash(&file, digest).map_err(failed)?;
        let _open = self.while_open()?;
        let _alone = self.alone(digest);
        // Between opening and here the name may have gone, or have got another file.
        let metadata = file.metadata().map_err(failed)?;
        let named =
            path.symlink_metadata().is_ok_and(|named| (named.dev(), named.ino()) == (metadata.dev(), metadata.ino()));
        if is_right {
            if named {
                let at = self.catalog.stamp();
                self.catalog.tell(Note::Stored { digest: *digest, size: length, at, charge: None });
                self.known.insert(*digest, length);
            }
            return Ok(Some(Blob::new(file, *digest, length, lease)));
        }
        tracing::warn!(%digest, "a blob has not the content of its name: it is dropped");
        if named {
            self.drop_name(digest)?;
        }
        Ok(None)
    }

    /// With the stripe held.
    fn drop_name(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.layout.blob(digest);
        self.known.invalidate(digest);
        let size = path.symlink_metadata().map_or(0, |metadata| metadata.len());
        let was_there = self.disk.unlink(&path)?;
        if was_there {
            self.disk.sync_folder(&self.layout.folder(digest.algorithm()))?;
        }
        let charge = was_there.then(|| self.ledger.charge(-size.cast_signed(), -1));
        self.catalog.tell(Note::Gone { digest: *digest, charge });
        Ok(())
    }

    fn alone(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let stripe = self.stripe_of.hash_one(digest) as usize % STRIPES;
        lock(&self.stripes[stripe])
    }
}

/// Whether the file's content has this digest.
fn hash(mut file: &File, digest: &Digest) -> std::io::Result<bool> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish() == *digest),
            count => hasher.update(&buffer[..count]),
        }
    }
}
