//! Opens the cache directory, hands out blobs and staged files, and closes the folder again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::care::evict::Evictor;
use super::care::rebuild::Rebuild;
use super::care::scrub::{ScrubPace, Scrubber, Task};
use super::catalog::Catalog;
use super::content::blobs::{Blobs, HASH_AT_ONCE};
use super::content::damage::Suspects;
use super::content::parked::{self, ParkedFills};
use super::content::staged::Space;
use super::layout::Layout;
use super::ledger::Ledger;
use super::lock::lock;
use super::{Blob, Checksums, Config, Disk, DiskFault, Error, Partial, Staged, StoreUsage, Verification};
use crate::host::{FreeSpace, Limit, Percent, free_space};
use crate::oci::{Algorithm, Digest};

/// The default limit in bytes, or half the file system if that is less.
const DEFAULT_LIMIT: u64 = 100 << 30;
/// How long the store waits for the folder's lock: a `pullthrough cache` command holds it for a moment, and so does a
/// server that is stopping.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// The cache directory, held by this process. Clones share one store, and the last one to be dropped closes it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    blobs: Arc<Blobs>,
    evictor: Arc<Evictor>,
    staged: AtomicU64,
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Kept, so that only `stop` ends the rebuild.
    rebuild_now: mpsc::Sender<()>,
    scrub: mpsc::Sender<Task>,
}

impl Store {
    /// Opens the folder, making it if needed, and takes its lock. Waits for the disk, but never lists the blobs: after
    /// an unclean end or with a lost catalog they are compared with the catalog in the background.
    ///
    /// # Errors
    /// [`Error::Held`], [`Error::Foreign`], [`Error::Newer`], or the error of the system.
    pub fn open(config: &Config) -> Result<Self, Error> {
        Self::open_on(config, Disk::default())
    }

    /// As [`Store::open`], on a [`Disk`] that a test watches.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(config: &Config, disk: Disk) -> Result<Self, Error> {
        let layout = Layout::open(&disk, &config.dir, LOCK_TIMEOUT)?;
        let space = free_space(layout.root()).map_err(|source| Error::io("stat", layout.root(), source))?;
        let ledger = Ledger::new(limit(config, space), share(space.total, config.min_free), space.free);
        let ledger = Arc::new(ledger.on(space.total));
        let (rebuild_now, asked) = mpsc::channel();
        let (scrub, tasks) = mpsc::channel();
        let (catalog, is_new_catalog) =
            Catalog::open(layout.root().into(), Arc::clone(&ledger), rebuild_now.clone(), Arc::clone(disk.health()))?;
        layout.begin(&disk)?; // only now is the catalog's format known
        let (parked_fills, number) = ParkedFills::load(&disk, &layout, &ledger)?;
        let must_rebuild = !layout.is_new && (!layout.was_clean || is_new_catalog);
        if must_rebuild {
            catalog.diverged();
            let _ = rebuild_now.send(()); // the receiver is right here
        }
        let verify = scrub.clone();
        let suspects = Suspects::new(move |digest| _ = verify.send(Task::Verify(digest))); // a closed store drops nothing
        disk.health().opened();
        let blobs = Arc::new(Blobs::new(disk, layout, catalog, ledger, parked_fills, suspects));
        let evictor = Arc::new(Evictor::new(Arc::clone(&blobs), space.total));
        let stop = Arc::new(AtomicBool::new(false));
        let rebuild = Rebuild::new(Arc::clone(&blobs), Arc::clone(&stop));
        let scrubber = Scrubber::new(Arc::clone(&blobs), tasks, Arc::clone(&stop));
        let root = blobs.layout.root().to_owned();
        let store = Self(Arc::new(Inner {
            blobs,
            evictor: Arc::clone(&evictor),
            staged: number.into(),
            stop,
            threads: Mutex::default(),
            rebuild_now,
            scrub,
        }));
        // From here on a failure drops the store, which stops the started threads.
        store.start("evict", &root, move || evictor.run())?;
        store.start("rebuild", &root, move || rebuild.run(&asked))?;
        store.start("scrub", &root, move || scrubber.run())?;
        store.0.evictor.wake(); // the limit may have been lowered
        Ok(store)
    }

    fn start(&self, name: &str, root: &Path, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = thread::Builder::new().name(name.into()).spawn(work);
        lock(&self.0.threads).push(thread.map_err(|source| Error::io("start a thread for", root, source))?);
        Ok(())
    }

    /// Opens a blob by its name. Returns `None` if there is none. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::Unproven`] for a large blob that the catalog does not know: call [`Store::prove`] or [`Store::find`]. Else the
    /// error of the system.
    pub fn read(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        self.0.blobs.read(digest, HASH_AT_ONCE)
    }

    /// The same by what is in memory, without waiting. `None` where that is not enough.
    pub(crate) fn read_now(&self, digest: &Digest) -> Result<Option<Option<Blob>>, Error> {
        self.0.blobs.read_now(digest)
    }

    /// Reads a whole blob of at most `limit` bytes. It succeeds even at the limit of open files, since it keeps the
    /// file open only for a moment. Returns `None` if there is no such blob, or a longer one. Waits for the disk.
    ///
    /// # Errors
    /// As [`Store::read`] and [`Blob::read_at`].
    pub fn read_whole(&self, digest: &Digest, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let blobs = &self.0.blobs;
        let blob = blobs.read_in(digest, HASH_AT_ONCE, || Ok(blobs.files.take_anyway()))?;
        let read = blob.map_or(Ok(None), |blob| blob.read_all(limit));
        read.map_err(|source| Error::io("read", &blobs.layout.blob(digest), source))
    }

    /// As [`Store::read`], but hashes a blob that the catalog does not know, however long that takes. A blob whose
    /// content does not match its digest is dropped, and the result is `None`.
    ///
    /// # Errors
    /// The error of the system.
    pub fn prove(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        self.0.blobs.prove(digest)
    }

    /// Calls [`Store::look`], and [`Store::prove`] on a blocking thread where needed. Cancel-safe.
    ///
    /// # Errors
    /// The error of the system.
    pub async fn find(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        match self.look(digest).await {
            Err(Error::Unproven { .. }) => {
                let (store, digest) = (self.clone(), *digest);
                tokio::task::spawn_blocking(move || store.prove(&digest)).await.unwrap_or(Err(Error::Closed))
            }
            found => found,
        }
    }

    /// Creates a file to be filled, which no later fill resumes.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Closed`], or the error of the system.
    pub fn stage(&self, digest: &Digest) -> Result<Staged, Error> {
        self.stage_of(digest, None)
    }

    /// Creates a file to be filled from the registry `origin`. After [`Staged::remember`] it outlives its handle and
    /// this process, and [`Store::resume`] finds it by digest and origin.
    ///
    /// # Errors
    /// As [`Store::stage`].
    pub fn stage_from(&self, digest: &Digest, origin: &str) -> Result<Staged, Error> {
        self.stage_of(digest, Some(origin))
    }

    /// Takes an unfinished file of this content from this registry, left by this process or an earlier one at most 7
    /// days ago. The caller owns it alone. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::Closed`], or the error of the system.
    pub fn resume(&self, digest: &Digest, origin: &str) -> Result<Option<Partial>, Error> {
        let blobs = &self.0.blobs;
        let _open = blobs.while_open()?;
        let permit = blobs.file_permit()?;
        let Some(parked) = blobs.parked_fills.take(digest, origin) else { return Ok(None) };
        let path = parked.path.clone();
        match Staged::resume(Arc::clone(blobs), self.space(), *digest, parked, permit) {
            Err(error) => {
                parked::remove(&blobs.disk, &path, true);
                if error.is_absent() { Ok(None) } else { Err(error) }
            }
            resumed => resumed,
        }
    }

    /// Creates a file for content whose digest is not known yet, to be committed by [`Staged::commit_as`].
    ///
    /// # Errors
    /// As [`Store::stage`].
    pub fn stage_unnamed(&self) -> Result<Staged, Error> {
        self.stage(&Digest::of(Algorithm::Sha256, b""))
    }

    fn stage_of(&self, digest: &Digest, origin: Option<&str>) -> Result<Staged, Error> {
        let _open = self.0.blobs.while_open()?;
        let number = self.0.staged.fetch_add(1, Ordering::Relaxed);
        let permit = self.0.blobs.file_permit()?;
        Staged::new(Arc::clone(&self.0.blobs), self.space(), *digest, number, origin, permit)
    }

    fn space(&self) -> Arc<dyn Space> {
        let evictor: Arc<Evictor> = Arc::clone(&self.0.evictor);
        evictor
    }

    /// Tests whether a file can be created, beyond the limit of open files. Waits for the disk.
    ///
    /// # Errors
    /// As [`Store::stage`].
    pub fn probe(&self, digest: &Digest) -> Result<(), Error> {
        let blobs = &self.0.blobs;
        let _open = blobs.while_open()?;
        let number = self.0.staged.fetch_add(1, Ordering::Relaxed);
        let permit = blobs.files.take_anyway();
        Staged::new(Arc::clone(blobs), self.space(), *digest, number, None, permit).map(drop)
    }

    /// The number of open files of content and its limit. A shared file counts once.
    #[must_use]
    pub fn files(&self) -> &Limit {
        &self.0.blobs.files
    }

    /// Stores small content whole, such as a manifest. The caller has verified the digest. Waits for the disk.
    ///
    /// # Errors
    /// As [`Store::stage`] and [`Staged::commit`].
    pub fn put(&self, digest: &Digest, content: &[u8]) -> Result<Blob, Error> {
        let staged = self.stage(digest)?;
        staged.write_at(0, content)?;
        let mut checksums = Checksums::new();
        checksums.update(content);
        staged.commit_with(checksums)
    }

    /// Removes a blob and its links. Readers of it keep the bytes. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::Closed`], or the error of the system.
    pub fn remove(&self, digest: &Digest) -> Result<(), Error> {
        self.0.blobs.remove(digest)
    }

    /// Hashes a blob, however long that takes. One whose content does not match its digest is dropped.
    ///
    /// # Errors
    /// The error of the system.
    pub fn verify(&self, digest: &Digest) -> Result<Verification, Error> {
        self.0.blobs.verify(digest, &mut |_| true)
    }

    /// Verifies all blobs in the background repeatedly at this pace, or stops that with `None`. It is off until called.
    /// A pass continues where the last one stopped, even after a restart.
    pub fn scrub(&self, pace: Option<ScrubPace>) {
        let _ = self.0.scrub.send(Task::Scrub(pace)); // a closed store has no receiver
    }

    /// Evicts what is due now, as the background thread does. Returns the bytes freed. Waits for the
    /// disk.
    pub fn evict(&self) -> u64 {
        self.0.evictor.evict_at_least(0)
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.0.blobs.layout.root()
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// The catalog of the blobs.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.0.blobs.catalog
    }

    /// The usage of the folder, from memory.
    #[must_use]
    pub fn usage(&self) -> StoreUsage {
        StoreUsage { damaged: self.0.blobs.suspects.found(), ..self.0.blobs.ledger.usage() }
    }

    /// The fault that keeps the cache from being written, if there is one: pulls continue uncached, and stored content
    /// is served. It clears by itself a second or two after its cause is gone.
    #[must_use]
    pub fn disk_fault(&self) -> Option<DiskFault> {
        self.0.blobs.disk.health().fault()
    }

    /// Whether folder and catalog are known to agree. They are not while the rebuild after an unclean end runs.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.0.blobs.catalog.may_differ()
    }

    /// Writes the catalog and releases the folder. Open blobs stay readable; everything else is [`Error::Closed`] from
    /// here on. Waits for the disk.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Inner {
    fn close(&self) {
        self.blobs.close();
        self.stop.store(true, Ordering::Release);
        self.evictor.stop();
        let _ = self.scrub.send(Task::Stop);
        let _ = self.rebuild_now.send(()); // wakes the rebuild, which may have ended
        let threads = std::mem::take(&mut *lock(&self.threads));
        if threads.is_empty() {
            return; // already closed
        }
        for thread in threads {
            thread.thread().unpark();
            let _ = thread.join(); // a panic was reported when it happened
        }
        self.blobs.catalog.close();
        if !self.blobs.catalog.may_differ()
            && let Err(error) = self.blobs.layout.mark_clean(&self.blobs.disk)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the next start will compare the catalog with the cache directory"
            );
        }
        self.blobs.layout.release();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn limit(config: &Config, space: FreeSpace) -> u64 {
    config.max_size.map_or_else(|| DEFAULT_LIMIT.min(space.total / 2), |size| size.0)
}

fn share(total: u64, percent: Percent) -> u64 {
    total / 100 * u64::from(percent.0)
}
