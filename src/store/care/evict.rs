//! Evicts blobs: on its own thread when the folder nears its limit or the file system runs short, and at once when a
//! write finds no space.
//!
//! It never evicts a pinned blob or one that is being read. A pass frees space down to a low mark, so that passes are
//! rare.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::policy::Choice;
use crate::host::free_space;
use crate::store::catalog::CatalogReader;
use crate::store::content::blobs::Blobs;
use crate::store::content::staged::Space;
use crate::store::layout::ALGORITHMS;
use crate::store::lock::lock;
use crate::store::{DiskFault, Error};

/// A pass starts in the background above this share of the limit, ahead of need, and frees down to the other.
/// Writes that are faster than eviction wait at the limit itself.
const HIGH_PERCENT: u64 = 97;
const LOW_PERCENT: u64 = 94;
/// The space, in bytes, to free on a full disk: this much, but at most this part of a small file system and at least a
/// hundredth of a large one.
const ROOM: u64 = 64 << 20;
const ROOM_PART: u64 = 8;
/// The space, in bytes, that the catalog needs to write its pending changes.
const CATALOG_ROOM: u64 = 8 << 20;
/// How often the free space is measured: after this time, and after this many written bytes.
const MEASURE_AGE: Duration = Duration::from_secs(10);
const MEASURE_BYTES: u64 = 256 << 20;
/// How often a faulty disk is tested, and with how many bytes. A full disk is tested with more, so that it has some
/// space when it is reported healthy.
const PROBE_AGE: Duration = Duration::from_secs(1);
const PROBE: usize = 4 << 10;
const PROBE_FULL: usize = 1 << 20;
/// Some file systems free the space of a removed file with a delay: a second pass for want of free space waits this
/// long, or it would remove twice the amount needed.
const SETTLE: Duration = Duration::from_secs(5);
/// How often a disk that stays full is logged.
const WARN_AGE: Duration = Duration::from_secs(600);
/// How often other victims are chosen when one got a reader before its removal.
const ROUNDS: usize = 4;
/// The number of victims sent to the catalog in one batch.
const FLUSHED: usize = 250;

#[derive(Default)]
struct Signal {
    woken: bool,
    stop: bool,
}

#[derive(Default)]
struct Pass {
    /// The end of the last pass for want of free space.
    short_at: Option<Instant>,
    /// The time of the last warning that a pass freed too little.
    warned_at: Option<Instant>,
    /// Whether other files left the cache little space at the last pass, of which the log was told then.
    is_squeezed: bool,
}

/// Evicts blobs, one pass at a time.
pub(crate) struct Evictor {
    blobs: Arc<Blobs>,
    reader: CatalogReader,
    disk_total: u64,
    /// Allows one pass at a time.
    pass: Mutex<Pass>,
    /// The number of passes that freed something.
    passes: AtomicU64,
    written: AtomicU64,
    signal: Mutex<Signal>,
    wakeup: Condvar,
}

impl Evictor {
    pub(crate) fn new(blobs: Arc<Blobs>, disk_total: u64) -> Self {
        Self {
            reader: blobs.catalog.reader(),
            blobs,
            disk_total,
            pass: Mutex::default(),
            passes: 0.into(),
            written: 0.into(),
            signal: Mutex::default(),
            wakeup: Condvar::new(),
        }
    }

    /// Runs until [`Evictor::stop`].
    pub(crate) fn run(&self) {
        loop {
            let signal = lock(&self.signal);
            let is_well = self.blobs.disk.health().fault().is_none();
            let interval = if is_well { MEASURE_AGE } else { PROBE_AGE };
            let waited = self.wakeup.wait_timeout_while(signal, interval, |signal| !signal.woken && !signal.stop);
            let (mut signal, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            if signal.stop {
                return;
            }
            signal.woken = false;
            drop(signal);
            self.look();
            self.probe();
            self.blobs.catalog.attend();
            self.help_catalog();
            self.blobs.parked_fills.expire(&self.blobs.disk);
            self.measure();
            self.evict_at_least(0);
        }
    }

    /// Finds out that the folders take no files before a pull does.
    fn look(&self) {
        let Ok(_open) = self.blobs.while_open() else { return };
        if self.blobs.disk.health().fault().is_none() {
            let folders = self.blobs.layout.folders();
            let _ = self.blobs.disk.look_at(folders.iter().map(PathBuf::as_path)); // noted where it is to be told
        }
    }

    /// Tests a faulty disk.
    fn probe(&self) {
        let Ok(_open) = self.blobs.while_open() else { return };
        self.blobs.disk.health().probe(|fault| {
            let path = self.blobs.layout.fills().join("probe");
            let bytes = vec![0; if fault == DiskFault::Full { PROBE_FULL } else { PROBE }];
            let (disk, layout) = (&self.blobs.disk, &self.blobs.layout);
            let folders = layout.folders();
            disk.look_at(folders.iter().map(PathBuf::as_path))?;
            disk.unlink(&path)?;
            let file = disk.create(&path)?;
            let written = disk.write_at(&file, &path, 0, &bytes).and_then(|()| disk.sync_file(&file, &path));
            let written = written.and_then(|()| disk.open(&path).map(drop));
            disk.unlink(&path)?;
            written.and_then(|()| disk.sync_folder(&layout.fills()))
        });
        if self.blobs.disk.health().catalog().is_some() {
            self.blobs.catalog.probe();
        }
    }

    /// Frees space for a catalog that has none. Such a catalog does not know the latest blobs, which may be what fills
    /// the disk: so nothing else is written (see [`Space::admit`]), and even blobs that it does not know are evicted.
    fn help_catalog(&self) {
        if self.blobs.disk.health().catalog() != Some(DiskFault::Full) {
            return;
        }
        self.measure();
        let wanted = self.room().min(CATALOG_ROOM);
        if self.blobs.ledger.disk_free.load(Ordering::Relaxed) < wanted {
            self.evict_at_least(wanted);
        }
    }

    /// Stops the thread after its current pass.
    pub(crate) fn stop(&self) {
        lock(&self.signal).stop = true;
        self.wakeup.notify_all();
    }

    /// Wakes the thread.
    pub(crate) fn wake(&self) {
        let mut signal = lock(&self.signal);
        if !signal.woken {
            signal.woken = true;
            self.wakeup.notify_one();
        }
    }

    fn room(&self) -> u64 {
        ROOM.min(self.disk_total / ROOM_PART).max(self.disk_total / 100)
    }

    /// Evicts as much as is needed now, and at least `minimum` bytes. Returns the bytes freed.
    pub(crate) fn evict_at_least(&self, minimum: u64) -> u64 {
        // A closed catalog would not learn of the evictions.
        let Ok(_open) = self.blobs.while_open() else { return 0 };
        self.work(&mut lock(&self.pass), minimum)
    }

    fn work(&self, pass: &mut Pass, minimum: u64) -> u64 {
        let short = if pass.short_at.is_some_and(|at| at.elapsed() < SETTLE) { 0 } else { self.short() };
        let need = self.over().max(short).max(minimum);
        if need == 0 {
            return 0;
        }
        self.tell_of_others(pass);
        let freed = self.evict(need);
        self.passes.fetch_add(u64::from(freed > 0), Ordering::Release);
        self.measure();
        if short > 0 {
            pass.short_at = Some(Instant::now());
        }
        if freed < need && pass.warned_at.is_none_or(|at| at.elapsed() >= WARN_AGE) {
            pass.warned_at = Some(Instant::now());
            let ledger = &self.blobs.ledger;
            let (cached_bytes, disk_free_bytes) = (ledger.bytes(), ledger.disk_free.load(Ordering::Relaxed));
            if short > 0 && ledger.squeeze().is_some() {
                tracing::warn!(
                    need,
                    freed,
                    cached_bytes,
                    disk_free_bytes,
                    min_free_bytes = ledger.min_free,
                    "the cache has evicted all that it can and cache.min_free is still not met: other files fill its file system"
                );
            } else {
                tracing::warn!(
                    need,
                    freed,
                    cached_bytes,
                    "the cache cannot free what it should: everything left is being read, staged or pinned"
                );
            }
        }
        freed
    }

    /// Warns when other files begin to leave the cache little space: blobs are evicted for their sake, down to none.
    fn tell_of_others(&self, pass: &mut Pass) {
        let ledger = &self.blobs.ledger;
        let squeeze = ledger.squeeze();
        if std::mem::replace(&mut pass.is_squeezed, squeeze.is_some()) {
            return;
        }
        let Some(squeeze) = squeeze else { return };
        tracing::warn!(
            other_bytes = squeeze.others,
            cached_bytes = ledger.bytes(),
            disk_free_bytes = ledger.disk_free.load(Ordering::Relaxed),
            min_free_bytes = ledger.min_free,
            missing_bytes = squeeze.missing,
            "other files fill the cache's file system, so blobs are evicted to keep cache.min_free free: remove other files, or lower cache.min_free"
        );
    }

    /// The bytes above the low mark, once the high mark is exceeded.
    fn over(&self) -> u64 {
        let (bytes, limit) = (self.blobs.ledger.bytes(), self.blobs.ledger.limit);
        let share = |percent| limit / 100 * percent + limit % 100 * percent / 100;
        if bytes > share(HIGH_PERCENT) { bytes - share(LOW_PERCENT) } else { 0 }
    }

    /// The bytes that the file system is short of, plus a hundredth of it.
    fn short(&self) -> u64 {
        let ledger = &self.blobs.ledger;
        let free = ledger.disk_free.load(Ordering::Relaxed);
        if free < ledger.min_free { ledger.min_free - free + self.disk_total / 100 } else { 0 }
    }

    fn measure(&self) {
        self.written.store(0, Ordering::Relaxed);
        match free_space(self.blobs.layout.root()) {
            Ok(space) => self.blobs.ledger.disk_free.store(space.free, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "cannot measure the free space of the cache's file system"),
        }
    }

    fn evict(&self, need: u64) -> u64 {
        // Parked fills go first: no client waits for them, and they cannot be served.
        let mut freed = self.blobs.parked_fills.drop_oldest(&self.blobs.disk, need);
        for _ in 0..ROUNDS {
            if freed >= need {
                break;
            }
            self.blobs.catalog.flush_now(); // the scan sees committed rows only: all uses and blobs so far
            match self.round(need - freed) {
                Ok(0) => break,
                Ok(more) => freed += more,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot evict a blob");
                    break;
                }
            }
        }
        self.blobs.catalog.flush_now();
        if freed < need && self.blobs.disk.health().catalog() == Some(DiskFault::Full) {
            freed += self.evict_unknown(need - freed);
        }
        if freed > 0 {
            tracing::debug!(freed, "evicted");
        }
        freed
    }

    fn round(&self, need: u64) -> Result<u64, Error> {
        let mut choice = Choice::new(need);
        self.reader.scan(|row| {
            if !row.pinned && !self.blobs.leases.holds(&row.digest) {
                choice.offer(row);
            }
        })?;
        self.blobs.disk.health().freed(); // the scan is a part of it
        let mut freed = 0;
        for some in choice.victims().chunks(FLUSHED) {
            for row in some {
                if self.blobs.evict(&row.digest, row.size)? {
                    freed += row.size;
                }
            }
            self.blobs.catalog.flush_now(); // lookups must not wait behind thousands of changes
        }
        Ok(freed)
    }

    /// Evicts blobs in the folder that the catalog could not be informed of, in no order.
    fn evict_unknown(&self, need: u64) -> u64 {
        let mut freed = 0;
        for digest in ALGORITHMS.into_iter().flat_map(|algorithm| self.blobs.layout.list(algorithm)) {
            if freed >= need {
                break;
            }
            if !matches!(self.reader.row(&digest), Ok(None)) {
                continue;
            }
            let size = self.blobs.layout.blob(&digest).symlink_metadata().map_or(0, |metadata| metadata.len());
            if let Ok(true) = self.blobs.evict(&digest, size) {
                freed += size;
            }
        }
        freed
    }
}

impl Space for Evictor {
    /// Evicts in the background, or at once when the limit is exceeded. Admits nothing while the catalog has no space:
    /// it could not even record an eviction.
    fn admit(&self, count: u64) -> bool {
        if self.blobs.disk.health().catalog() == Some(DiskFault::Full) {
            return false;
        }
        let written = self.written.fetch_add(count, Ordering::Relaxed) + count;
        let limit = self.blobs.ledger.limit;
        if self.blobs.ledger.bytes() > limit {
            self.evict_at_least(0);
            return self.blobs.ledger.bytes() <= limit;
        }
        if self.over() > 0 || written > MEASURE_BYTES {
            self.wake();
        }
        true
    }

    /// Evicts at once, unless another thread did so just now.
    fn make_room(&self) -> bool {
        let Ok(_open) = self.blobs.while_open() else { return false };
        let before = self.passes.load(Ordering::Acquire);
        let mut pass = lock(&self.pass);
        if self.passes.load(Ordering::Acquire) != before {
            return true;
        }
        self.measure();
        self.work(&mut pass, self.room()) > 0
    }
}
