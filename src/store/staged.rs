//! A file that is being filled: written at any offset, read as it grows, then committed or gone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use super::blob::try_read_at;
use super::evict::Evictor;
use super::ledger::Charge;
use super::lock::{exclusive, lock, shared};
use super::shelf::Shelf;
use super::{Blob, Error};
use crate::oci::Digest;

/// Content on its way into the store. Shared by an `Arc`: writers at different offsets, any number of readers.
/// Dropped without a commit, its file is removed.
pub struct Staged {
    shelf: Arc<Shelf>,
    evictor: Arc<Evictor>,
    digest: Digest,
    path: PathBuf,
    file: File,
    charge: Mutex<Option<Charge>>,
    state: RwLock<State>,
}

enum State {
    Open,
    /// The blob is kept, so that it is not evicted while readers still follow the staged file.
    Committed(#[expect(dead_code, reason = "kept for its lease")] Blob),
    Failed,
}

impl Staged {
    pub(super) fn new(shelf: Arc<Shelf>, evictor: Arc<Evictor>, digest: Digest, number: u64) -> Result<Self, Error> {
        let path = shelf.layout.staged(&digest, number);
        let file = shelf.disk.create(&path).map_err(|error| full(error, digest))?;
        let charge = Mutex::new(Some(shelf.ledger.charge(0, 0)));
        Ok(Self { shelf, evictor, digest, path, file, charge, state: RwLock::new(State::Open) })
    }

    /// What it is to be.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Says how many bytes it is to have, as soon as that is known: content larger than the whole cache is
    /// refused here, before anything was evicted for it.
    ///
    /// # Errors
    /// [`Error::Full`] if it can never fit.
    pub fn expect(&self, length: u64) -> Result<(), Error> {
        if length > self.shelf.ledger.limit { Err(Error::Full { digest: self.digest }) } else { Ok(()) }
    }

    /// Writes all of `bytes` at `at`. May wait for the disk, and for room to be made.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no room: what was written before stays readable. [`Error::Sealed`] after a
    /// commit.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let state = shared(&self.state);
        if !matches!(*state, State::Open) {
            return Err(Error::Sealed { digest: self.digest });
        }
        let count = bytes.len() as u64;
        self.expect(at.saturating_add(count))?;
        self.charge(count.cast_signed());
        let written = if self.evictor.admit(count) { self.write(at, bytes) } else { Err(self.full()) };
        if written.is_err() {
            self.charge(-count.cast_signed());
        }
        written
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let write = || self.shelf.disk.write_at(&self.file, &self.path, at, bytes);
        match write() {
            Err(error) if error.is_no_room() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the disk is full: making room");
                if self.evictor.make_room() {
                    write().map_err(|error| full(error, self.digest))
                } else {
                    Err(self.full())
                }
            }
            done => done,
        }
    }

    /// Reads at `at`, as `pread` does. What was not written yet reads as zeros, or as the end: the caller knows
    /// what has landed. May wait for the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    /// The same for what is in memory already; `None` where it would wait for the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        try_read_at(&self.file, at, buffer)
    }

    /// Makes it a blob of `length` bytes, durable when this returns. The caller has verified the digest. If the
    /// blob is there already, that one stays. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::Length`] changes nothing. After any other error it is sealed: still readable, never to be
    /// committed, since after a failed sync nobody knows what the disk has.
    pub fn commit(&self, length: u64) -> Result<Blob, Error> {
        let mut state = exclusive(&self.state);
        if !matches!(*state, State::Open) {
            return Err(Error::Sealed { digest: self.digest });
        }
        let found = self.file.metadata().map_err(|source| Error::io("stat", &self.path, source))?.len();
        if found != length {
            return Err(Error::Length { digest: self.digest, expected: length, found });
        }
        *state = State::Failed;
        let synced = self.shelf.disk.sync_file(&self.file, &self.path);
        let charge = lock(&self.charge).take().unwrap_or_else(|| self.shelf.ledger.charge(0, 0));
        let blob = synced
            .and_then(|()| self.shelf.publish(&self.path, &self.digest, length, charge))
            .map_err(|error| full(error, self.digest))?;
        *state = State::Committed(blob.clone());
        drop(state);
        self.evictor.admit(0);
        Ok(blob)
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

/// A file system without room is [`Error::Full`].
fn full(error: Error, digest: Digest) -> Error {
    if error.is_no_room() { Error::Full { digest } } else { error }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if matches!(*shared(&self.state), State::Committed(_)) {
            return;
        }
        // After the store was closed the name may be another process's.
        let Ok(_open) = self.shelf.while_open() else { return };
        if let Err(error) = self.shelf.disk.unlink(&self.path) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a staged file stays until the next start");
        }
    }
}
