//! Opens, publishes, removes and evicts blobs by their names.
//!
//! One of publish, remove and evict happens at a time for each digest (a striped lock, taken on threads that may wait),
//! and the catalog learns of them in the order in which they happened. Opening takes no such lock.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use moka::sync::Cache;

use super::blob::{BlobOwner, OpenBlob};
use super::damage::{Inode, Suspects};
use super::lease::Leases;
use super::open_blobs::OpenBlobs;
use super::parked::ParkedFills;
use crate::host::{Limit, Taken};
use crate::oci::Digest;
use crate::store::catalog::{Catalog, CatalogReader, Change};
use crate::store::checksums::Sums;
use crate::store::layout::Layout;
use crate::store::ledger::{Charge, Ledger};
use crate::store::lock::{exclusive, lock, shared};
use crate::store::{Blob, Disk, Error};

/// A blob of up to this many bytes is hashed when it is opened, which takes under a millisecond.
pub(crate) const HASH_AT_ONCE: u64 = 1 << 20;
/// The number of digests remembered as known to the catalog, so that a hit needs no lookup.
const REMEMBERED: u64 = 64 * 1024;
/// The bytes of checksums in memory: those of 512 GiB of large blobs.
const SUMS: u64 = 32 << 20;
/// A blob of up to this many bytes has so few checksums that they are loaded when it is opened.
const FEW: u64 = 4 << 20;
const STRIPES: usize = 64;

/// The blobs and their state.
pub(crate) struct Blobs {
    pub(crate) disk: Disk,
    pub(crate) layout: Layout,
    pub(crate) catalog: Catalog,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) parked_fills: ParkedFills,
    reader: CatalogReader,
    known: Cache<Digest, u64>,
    sums: Cache<Digest, Sums>,
    pub(crate) suspects: Suspects,
    pub(crate) opened: OpenBlobs<OpenBlob>,
    /// The limit of open files of content.
    pub(crate) files: Limit,
    stripes: [Mutex<()>; STRIPES],
    stripe_of: RandomState,
    is_open: RwLock<bool>,
}

impl Blobs {
    pub(crate) fn new(
        disk: Disk,
        layout: Layout,
        catalog: Catalog,
        ledger: Arc<Ledger>,
        parked_fills: ParkedFills,
        suspects: Suspects,
    ) -> Self {
        Self {
            reader: catalog.reader(),
            disk,
            layout,
            catalog,
            ledger,
            leases: Arc::default(),
            parked_fills,
            known: Cache::new(REMEMBERED),
            sums: Cache::builder().max_capacity(SUMS).weigher(|_, sums: &Sums| sums.weight()).build(),
            suspects,
            opened: OpenBlobs::new(),
            files: Limit::new(usize::MAX),
            stripes: std::array::from_fn(|_| Mutex::default()),
            stripe_of: RandomState::new(),
            is_open: RwLock::new(true),
        }
    }

    /// Opens a blob by its name, unless it is open already. A blob that the catalog does not know is hashed first, if
    /// it has at most `hash_up_to` bytes.
    pub(crate) fn read(self: &Arc<Self>, digest: &Digest, hash_up_to: u64) -> Result<Option<Blob>, Error> {
        self.read_in(digest, hash_up_to, || self.file_permit())
    }

    /// As [`Blobs::read`], with a given permit.
    pub(crate) fn read_in(
        self: &Arc<Self>,
        digest: &Digest,
        hash_up_to: u64,
        permit: impl FnOnce() -> Result<Taken, Error>,
    ) -> Result<Option<Blob>, Error> {
        let not_open = match self.opened.get(digest) {
            Ok(open) => return Ok(Some(Blob::of(open))),
            Err(not_open) => not_open,
        };
        let Some(lease) = self.leases.take(digest) else { return Ok(None) };
        let permit = permit()?;
        let Some((file, length)) = self.open(digest)? else { return Ok(None) };
        let sums = match self.lookup(digest, length) {
            Some(sums) => sums,
            None if length > hash_up_to => return Err(Error::Unproven { digest: *digest }),
            None => match self.hash_opened(&file, digest, length)? {
                Some(sums) => Some(sums),
                None => return Ok(None),
            },
        };
        let open = Arc::new(OpenBlob::new(self.owner(), digest, (file, length), sums, lease, permit));
        Ok(Some(Blob::of(self.opened.share(digest, open, not_open))))
    }

    /// As [`Blobs::read`], by what is in memory. `None` where that is not enough.
    pub(crate) fn read_now(self: &Arc<Self>, digest: &Digest) -> Result<Option<Option<Blob>>, Error> {
        let not_open = match self.opened.get(digest) {
            Ok(open) => return Ok(Some(Some(Blob::of(open)))),
            Err(not_open) => not_open,
        };
        let Some(length) = self.known.get(digest) else { return Ok(None) };
        let sums = self.sums.get(digest).filter(|sums| sums.fits(length));
        if sums.is_none() && length <= FEW {
            return Ok(None);
        }
        let Some(lease) = self.leases.take(digest) else { return Ok(Some(None)) };
        let permit = self.file_permit()?;
        let path = self.layout.blob(digest);
        let Some(file) = self.disk.try_open(&path) else { return Ok(None) };
        let Some((file, found, inode)) = described(file, &path)? else { return Ok(Some(None)) };
        if self.suspects.inode(digest) == Some(inode) {
            return Ok(Some(None));
        }
        if found != length {
            return Ok(None);
        }
        let open = Arc::new(OpenBlob::new(self.owner(), digest, (file, length), sums, lease, permit));
        Ok(Some(Some(Blob::of(self.opened.share(digest, open, not_open)))))
    }

    fn owner(self: &Arc<Self>) -> Arc<dyn BlobOwner> {
        let blobs: Arc<Self> = Arc::clone(self);
        blobs
    }

    /// Takes a permit for one more open file.
    pub(crate) fn file_permit(&self) -> Result<Taken, Error> {
        self.files.take().ok_or_else(|| Error::Files { limit: self.files.most() })
    }

    /// Gives a staged, synced and verified file its name. An existing blob stays if the catalog knows it.
    pub(crate) fn publish(
        self: &Arc<Self>,
        staged: &Path,
        digest: &Digest,
        length: u64,
        sums: Sums,
        mut charge: Charge,
    ) -> Result<Blob, Error> {
        let _open = self.while_open()?;
        let _stripe = self.stripe(digest);
        // A finished download must not be lost for want of a permit.
        let permit = self.files.take_anyway();
        if let Some((file, found)) = self.open(digest)?
            && found == length
            && let Some(known) = self.lookup(digest, length)
            && let Some(lease) = self.leases.take(digest)
        {
            self.disk.unlink(staged)?;
            return Ok(Blob::of(Arc::new(OpenBlob::new(self.owner(), digest, (file, found), known, lease, permit))));
        }
        let path = self.layout.blob(digest);
        self.disk.rename(staged, &path)?;
        if let Err(error) = self.disk.sync_folder(&self.layout.folder(digest.algorithm())) {
            self.catalog.diverged(); // the name may last or not: the next rebuild will see
            return Err(error);
        }
        charge.become_bytes(length.cast_signed(), 1);
        let at = self.catalog.stamp();
        self.catalog.submit(Change::Stored { digest: *digest, size: length, at, sums: sums.clone(), charge });
        self.suspects.clear(digest);
        self.opened.forget(digest);
        self.remember(digest, length, &sums);
        let absent = || Error::io("open", &path, std::io::ErrorKind::NotFound);
        let lease = self.leases.take(digest).ok_or_else(absent)?;
        let not_open = self.opened.get(digest);
        let file = self.open(digest)?.ok_or_else(absent)?;
        let open = Arc::new(OpenBlob::new(self.owner(), digest, file, Some(sums), lease, permit));
        Ok(Blob::of(match not_open {
            Ok(open) => open, // another reader was faster
            Err(not_open) => self.opened.share(digest, open, not_open),
        }))
    }

    /// Removes a blob and its links. Readers keep the bytes.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let _open = self.while_open()?;
        let _stripe = self.stripe(digest);
        self.drop_name(digest)
    }

    /// Evicts a blob of this size unless it is being read or pinned. Returns whether it did.
    pub(crate) fn evict(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let _stripe = self.stripe(digest);
        let Some(_eviction) = self.leases.evict(digest) else { return Ok(false) };
        if self.reader.is_pinned(digest)? {
            return Ok(false); // pinned after it was chosen
        }
        self.forget(digest);
        let was_there = self.disk.unlink(&self.layout.blob(digest))?;
        let charge = self.ledger.charge(-size.cast_signed(), -1);
        self.catalog.submit(Change::Gone { digest: *digest, charge: Some(charge) });
        if was_there {
            self.ledger.evictions.fetch_add(1, Ordering::Relaxed);
            self.ledger.evicted_bytes.fetch_add(size, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Adds a file among the blobs to the catalog, if it is still there.
    pub(crate) fn adopt(&self, digest: &Digest) -> Result<(), Error> {
        let _stripe = self.stripe(digest);
        let Ok(metadata) = self.layout.blob(digest).symlink_metadata() else { return Ok(()) };
        if metadata.is_file() {
            let modified = metadata.mtime().saturating_mul(1_000_000);
            let at = modified.clamp(0, self.catalog.stamp());
            self.catalog.submit(Change::Found { digest: *digest, size: metadata.len(), at });
        }
        Ok(())
    }

    /// Removes a blob from the catalog if its file is gone. Returns whether it is.
    pub(crate) fn remove_if_gone(&self, digest: &Digest) -> bool {
        let _stripe = self.stripe(digest);
        let gone = self.layout.blob(digest).symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        if gone {
            self.catalog.submit(Change::Gone { digest: *digest, charge: None });
        }
        gone
    }

    /// Refuses every later change, after those in progress.
    pub(crate) fn close(&self) {
        *exclusive(&self.is_open) = false;
    }

    /// Allows changes while the guard lives.
    pub(crate) fn while_open(&self) -> Result<RwLockReadGuard<'_, bool>, Error> {
        let open = shared(&self.is_open);
        if *open { Ok(open) } else { Err(Error::Closed) }
    }

    /// Opens the file of a blob and returns it with its length. A suspect counts as absent.
    pub(crate) fn open(&self, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
        let suspect = self.suspects.inode(digest);
        let opened = self.open_any(digest)?.filter(|(_, _, inode)| suspect != Some(*inode));
        Ok(opened.map(|(file, length, _)| (file, length)))
    }

    pub(crate) fn open_any(&self, digest: &Digest) -> Result<Option<(File, u64, Inode)>, Error> {
        let path = self.layout.blob(digest);
        described(self.disk.open(&path), &path)
    }

    /// Looks up a verified blob; `None` if the catalog does not know it as verified. Its checksums are included if they
    /// are in memory, or few.
    pub(crate) fn lookup(&self, digest: &Digest, length: u64) -> Option<Option<Sums>> {
        let is_known = self.known.get(digest) == Some(length) || {
            // A catalog that cannot answer knows nothing: the blob is hashed.
            let is_known = matches!(self.reader.row(digest), Ok(Some(row)) if row.proven && row.size == length);
            if is_known {
                self.known.insert(*digest, length);
            }
            is_known
        };
        is_known.then(|| {
            let in_memory = self.sums.get(digest).filter(|sums| sums.fits(length));
            in_memory.or_else(|| if length <= FEW { self.recorded(digest, length) } else { None })
        })
    }

    /// The recorded checksums, from memory or the catalog.
    pub(crate) fn recorded(&self, digest: &Digest, length: u64) -> Option<Sums> {
        if let Some(sums) = self.sums.get(digest).filter(|sums| sums.fits(length)) {
            return Some(sums);
        }
        let sums = self.reader.sums(digest).ok().flatten().filter(|sums| sums.fits(length))?;
        self.sums.insert(*digest, sums.clone());
        Some(sums)
    }

    /// Remembers content that was verified and recorded.
    pub(crate) fn remember(&self, digest: &Digest, length: u64, sums: &Sums) {
        self.known.insert(*digest, length);
        self.sums.insert(*digest, sums.clone());
    }

    fn forget(&self, digest: &Digest) {
        self.known.invalidate(digest);
        self.sums.invalidate(digest);
    }

    /// Removes the name. The caller holds the stripe.
    pub(crate) fn drop_name(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.layout.blob(digest);
        self.forget(digest);
        let size = path.symlink_metadata().map_or(0, |metadata| metadata.len());
        let was_there = self.disk.unlink(&path)?;
        self.opened.forget(digest); // after it: no one who opens the file from here on finds it
        if was_there {
            self.disk.sync_folder(&self.layout.folder(digest.algorithm()))?;
        }
        let charge = was_there.then(|| self.ledger.charge(-size.cast_signed(), -1));
        self.catalog.submit(Change::Gone { digest: *digest, charge });
        Ok(())
    }

    pub(crate) fn stripe(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let stripe = self.stripe_of.hash_one(digest) as usize % STRIPES;
        lock(&self.stripes[stripe])
    }
}

/// An opened blob with its length; `None` where there is none.
fn described(opened: Result<File, Error>, path: &Path) -> Result<Option<(File, u64, Inode)>, Error> {
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata().map_err(|source| Error::io("stat", path, source))?;
    if !metadata.is_file() {
        return Err(Error::io("read as a file", path, std::io::ErrorKind::InvalidData));
    }
    Ok(Some((file, metadata.len(), Inode::of(&metadata))))
}
