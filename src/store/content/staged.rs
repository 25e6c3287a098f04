//! Fills a file: it is written at any offset, read as it grows, and then committed or removed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::blob::try_read_at;
use super::blobs::Blobs;
use super::parked::{self, ParkedFill, has_bytes, map_of};
use super::partial::Landed;
use crate::host::Taken;
use crate::oci::Digest;
use crate::store::ledger::Charge;
use crate::store::lock::{exclusive, lock, shared};
use crate::store::{Blob, Checksums, Error, patience};

/// How often a write to a full disk is tried: others may take the space that was freed.
const ROOM_TRIES: usize = 3;
/// A commit may take so many times as long as any other step.
const COMMIT: u32 = 8;
/// Bytes read at once for the checksums.
const AT_ONCE: usize = 256 << 10;

/// Frees space for bytes that are about to be written.
pub(crate) trait Space: Send + Sync {
    /// Admits `count` more bytes, already charged. Returns whether there is space.
    fn admit(&self, count: u64) -> bool;

    /// Frees space at once after a write found the disk full. Returns whether anything was freed.
    fn make_room(&self) -> bool;
}

/// Content on its way into the store, shared by an `Arc`: writers at different offsets, any number of readers. When it
/// is dropped without a commit, its file is removed, unless it was remembered: then it is parked for later.
pub struct Staged {
    blobs: Arc<Blobs>,
    space: Arc<dyn Space>,
    digest: Digest,
    path: PathBuf,
    file: File,
    charge: Mutex<Option<Charge>>,
    state: RwLock<State>,
    origin: Option<String>,
    /// The content of the map beside the file, if there is one.
    landed: Mutex<Option<Landed>>,
    /// A sync failed: the content of the disk is unknown.
    sync_failed: AtomicBool,
    _permit: Taken,
}

/// An unfinished fill that is resumed.
pub struct Partial {
    /// The file, to be filled further.
    pub staged: Staged,
    /// The start and end (exclusive, in bytes) of each extent that has landed: in order, disjoint, not touching.
    pub extents: Vec<(u64, u64)>,
    /// The content's length in bytes, if it was known.
    pub total: Option<u64>,
    /// The entity tag that was remembered.
    pub validator: Option<String>,
}

enum State {
    Open,
    /// Keeps the blob from being evicted while readers still follow the staged file.
    Committed(#[expect(dead_code, reason = "kept for its lease")] Blob),
    Failed,
    /// The files belong to the fill that resumes it.
    Parked,
}

impl Staged {
    pub(crate) fn new(
        blobs: Arc<Blobs>,
        space: Arc<dyn Space>,
        digest: Digest,
        number: u64,
        origin: Option<&str>,
        permit: Taken,
    ) -> Result<Self, Error> {
        let path = blobs.layout.staged(&digest, number);
        let file = blobs.disk.create(&path).map_err(|error| full(error, digest))?;
        let charge = Mutex::new(Some(blobs.ledger.charge(0, 0)));
        Ok(Self {
            blobs,
            space,
            digest,
            path,
            file,
            charge,
            state: RwLock::new(State::Open),
            origin: origin.map(Into::into),
            landed: Mutex::default(),
            sync_failed: false.into(),
            _permit: permit,
        })
    }

    pub(crate) fn resume(
        blobs: Arc<Blobs>,
        space: Arc<dyn Space>,
        digest: Digest,
        parked: ParkedFill,
        permit: Taken,
    ) -> Result<Option<Partial>, Error> {
        let ParkedFill { path, landed, charge, .. } = parked;
        let file = blobs.disk.reopen(&path)?;
        if !has_bytes(&file, &landed).map_err(|source| Error::io("stat", &path, source))? {
            return Err(Error::io("read", &path, io::ErrorKind::NotFound));
        }
        let (extents, total, validator) = (landed.extents.clone(), landed.total, landed.validator.clone());
        let staged = Self {
            blobs,
            space,
            digest,
            path,
            file,
            charge: Mutex::new(Some(charge)),
            state: RwLock::new(State::Open),
            origin: Some(landed.origin.clone()),
            landed: Mutex::new(Some(landed)),
            sync_failed: false.into(),
            _permit: permit,
        };
        Ok(Some(Partial { staged, extents, total, validator }))
    }

    /// The digest of the content.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Declares the length as soon as it is known: content larger than the whole cache is refused here, before anything
    /// is evicted for it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it can never fit.
    pub fn expect(&self, length: u64) -> Result<(), Error> {
        let limit = self.blobs.ledger.limit;
        if length > limit { Err(Error::TooLarge { digest: self.digest, length, limit }) } else { Ok(()) }
    }

    /// Writes all of `bytes` at `at`. May wait for the disk and for space to be freed.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no space, [`Error::TooLarge`]: the bytes written before stay readable.
    /// [`Error::Sealed`] after a commit.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let state = shared(&self.state);
        if !matches!(*state, State::Open) {
            return Err(Error::Sealed { digest: self.digest });
        }
        let count = bytes.len() as u64;
        self.expect(at.saturating_add(count))?;
        self.charge(count.cast_signed());
        let written = if self.space.admit(count) { self.write(at, bytes) } else { Err(self.full()) };
        if written.is_err() {
            self.charge(-count.cast_signed());
        }
        written
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        for _ in 0..ROOM_TRIES {
            match self.blobs.disk.write_at(&self.file, &self.path, at, bytes) {
                Err(error) if error.is_no_room() => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "the disk is full: evicting blobs to free space"
                    );
                    if !self.space.make_room() {
                        break;
                    }
                }
                done => return done,
            }
        }
        Err(self.full())
    }

    /// Waits for a `write` of it that began at `since`. Cancel-safe: the work goes on.
    ///
    /// # Errors
    /// The disk hangs. The work goes on all the same.
    pub async fn written<T>(&self, since: Instant, write: &mut JoinHandle<T>) -> Result<Result<T, JoinError>, Error> {
        let health = self.blobs.disk.health();
        patience::wait(health, ("write", &self.path), since + health.patience(), write).await
    }

    /// The same for a `commit` that begins now: to sync a large file takes a slow disk long.
    ///
    /// # Errors
    /// As [`Staged::written`].
    pub async fn committed<T>(&self, commit: &mut JoinHandle<T>) -> Result<Result<T, JoinError>, Error> {
        let health = self.blobs.disk.health();
        patience::wait(health, ("commit", &self.path), Instant::now() + COMMIT * health.patience(), commit).await
    }

    /// As [`Store::tells_of_failure`](crate::store::Store::tells_of_failure).
    pub fn tells_of_failure(&self) -> Option<u64> {
        self.blobs.disk.health().unstored.due()
    }

    /// Ends when the disk has let a read that begins now wait for too long.
    pub fn hung(&self) -> impl Future<Output = ()> + Send + use<> {
        patience::hung(self.blobs.disk.health(), &self.path)
    }

    /// Reads at `at`, as `pread` does. Bytes that were not written yet read as zeros, or as the end: the caller knows
    /// what has landed. May wait for the disk.
    ///
    /// # Errors
    /// The error of the system.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    /// As [`Staged::read_at`], for bytes that are in memory already; `None` where it would wait for the disk.
    ///
    /// # Errors
    /// The error of the system.
    pub fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        try_read_at(&self.file, at, buffer)
    }

    /// Records what has landed, so that this file is parked when its last handle is dropped, and found by
    /// [`Store::resume`](crate::store::Store::resume), even by a later process. The bytes are synced first, then
    /// recorded: call it rarely (every 64 MiB or 10 s), and once before the last handle is dropped. Waits for the disk;
    /// writers and readers continue meanwhile. `extents` are start and end (exclusive) in bytes, in any order. It does
    /// nothing without extents, and for a file that was staged without an origin.
    ///
    /// # Errors
    /// [`Error::Full`]; [`Error::Sealed`] after a commit or a failed sync; else the error of the system. The last record
    /// stays valid, except after a failed sync.
    pub fn remember(&self, extents: &[(u64, u64)], total: Option<u64>, validator: Option<&str>) -> Result<(), Error> {
        let Some(origin) = &self.origin else { return Ok(()) };
        let state = shared(&self.state);
        let mut remembered = lock(&self.landed);
        if !matches!(*state, State::Open) || self.sync_failed.load(Ordering::Acquire) {
            return Err(Error::Sealed { digest: self.digest });
        }
        let landed = Landed::new(origin, extents, total, validator);
        if landed.len() == 0 || remembered.as_ref() == Some(&landed) {
            return Ok(());
        }
        let _open = self.blobs.while_open()?;
        if let Err(error) = self.blobs.disk.sync_file(&self.file, &self.path) {
            self.sync_failed.store(true, Ordering::Release);
            return Err(full(error, self.digest));
        }
        let placed = self.blobs.disk.place(&map_of(&self.path), landed.encode().as_bytes());
        placed.map_err(|error| full(error, self.digest))?;
        *remembered = Some(landed);
        Ok(())
    }

    /// Gives the fill up for good, as after a digest that did not match: open handles can still read, nothing more is
    /// written, and its files are removed with the last handle. It is never resumed.
    pub fn abandon(&self) {
        let mut state = exclusive(&self.state);
        if matches!(*state, State::Open) {
            *state = State::Failed;
            self.forget();
        }
    }

    /// Parks it as it was remembered last, now and not with the last handle: nothing more is written, open handles can read.
    pub fn park(&self) {
        let mut state = exclusive(&self.state);
        let is_sound = matches!(*state, State::Open) && !self.sync_failed.load(Ordering::Acquire);
        let Ok(_open) = self.blobs.while_open() else { return };
        let Some(landed) = lock(&self.landed).take_if(|_| is_sound) else { return };
        let Some(charge) = lock(&self.charge).take() else { return };
        *state = State::Parked;
        let parked = ParkedFill::new(self.path.clone(), landed, charge);
        self.blobs.parked_fills.park(&self.blobs.disk, self.digest, parked);
    }

    /// Removes the map.
    fn forget(&self) {
        let Ok(_open) = self.blobs.while_open() else { return };
        if lock(&self.landed).take().is_some()
            && let Err(error) = self.blobs.disk.unlink(&map_of(&self.path))
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the map of a fill cannot be removed: it stays until the next start"
            );
        }
    }

    /// Publishes the file as a blob of as many bytes as `checksums` has read, durable on return. The caller has
    /// verified the digest of the same bytes. An existing blob stays. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::Length`] changes nothing. After any other error the file is sealed: still readable, but never committed, since
    /// the content of the disk is unknown after a failed sync.
    pub fn commit_with(&self, checksums: Checksums) -> Result<Blob, Error> {
        self.commit_as(&self.digest, checksums)
    }

    /// The same under another digest than it was staged for: a push says only at its end which content it is.
    ///
    /// # Errors
    /// As [`Staged::commit_with`].
    pub fn commit_as(&self, digest: &Digest, checksums: Checksums) -> Result<Blob, Error> {
        let length = checksums.len();
        let mut state = exclusive(&self.state);
        if !matches!(*state, State::Open) || self.sync_failed.load(Ordering::Acquire) {
            return Err(Error::Sealed { digest: *digest });
        }
        let found = self.file.metadata().map_err(|source| Error::io("stat", &self.path, source))?.len();
        if found != length {
            return Err(Error::Length { digest: *digest, expected: length, found });
        }
        *state = State::Failed;
        let synced = self.blobs.disk.sync_file(&self.file, &self.path);
        let charge = lock(&self.charge).take().unwrap_or_else(|| self.blobs.ledger.charge(0, 0));
        let blob = synced
            .and_then(|()| self.blobs.publish(&self.path, digest, length, checksums.finish(), charge))
            .map_err(|error| full(error, *digest))?;
        *state = State::Committed(blob.clone());
        drop(state);
        self.forget();
        self.space.admit(0);
        Ok(blob)
    }

    /// As [`Staged::commit_with`] of `length` bytes, for a caller without checksums: reads the file once more for them.
    ///
    /// # Errors
    /// As [`Staged::commit_with`].
    pub fn commit(&self, length: u64) -> Result<Blob, Error> {
        let failed = |source| Error::io("read", &self.path, source);
        let found = self.file.metadata().map_err(failed)?.len();
        if found != length {
            return Err(Error::Length { digest: self.digest, expected: length, found });
        }
        let mut checksums = Checksums::new();
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(AT_ONCE).min(AT_ONCE)];
        while checksums.len() < length {
            match self.file.read_at(&mut buffer, checksums.len()).map_err(failed)? {
                0 => break, // the length will not match
                count => checksums.update(&buffer[..count]),
            }
        }
        self.commit_with(checksums)
    }

    /// That its bytes cannot be read, for this cause.
    pub(crate) fn unreadable(&self, source: io::Error) -> Error {
        Error::io("read", &self.path, source)
    }

    fn charge(&self, count: i64) {
        if let Some(charge) = lock(&self.charge).as_mut() {
            charge.add(count, 0);
        }
    }

    fn full(&self) -> Error {
        Error::Full { digest: self.digest }
    }
}

/// Turns a full file system into [`Error::Full`].
fn full(error: Error, digest: Digest) -> Error {
    if error.is_no_room() { Error::Full { digest } } else { error }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let is_open = match *shared(&self.state) {
            State::Committed(_) | State::Parked => return,
            State::Open => !self.sync_failed.load(Ordering::Acquire),
            State::Failed => false,
        };
        // After the store was closed the name may belong to another process.
        let Ok(_open) = self.blobs.while_open() else { return };
        match (lock(&self.landed).take(), lock(&self.charge).take()) {
            (Some(landed), Some(charge)) if is_open => {
                let parked = ParkedFill::new(self.path.clone(), landed, charge);
                self.blobs.parked_fills.park(&self.blobs.disk, self.digest, parked);
            }
            (landed, charge) => {
                let (blobs, path) = (Arc::clone(&self.blobs), self.path.clone());
                off_the_network_task(move || {
                    parked::remove(&blobs.disk, &path, landed.is_some());
                    drop(charge);
                });
            }
        }
    }
}

/// The last reader may be a connection, which must not wait for the disk.
fn off_the_network_task(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}
