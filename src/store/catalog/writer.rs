//! The thread that owns the catalog's connection: it applies notes in batches and answers lookups in between.
//!
//! A batch that SQLite cannot write (no room, an ill disk) is kept and tried again; one that stays unwritable
//! is dropped, and the store remembers that folder and catalog differ, so that a walk over the folder mends it.

use std::collections::HashMap;
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, ErrorCode};

use super::key::micros;
use super::note::Note;
use super::schema::{self, Opened, is_damage};
use crate::oci::Digest;
use crate::store::Error;
use crate::store::ledger::{Charge, Ledger, Totals};
use crate::store::lock::lock;

/// A batch is committed this long after its first note, or when it is this large.
const BATCH_AGE: Duration = Duration::from_millis(100);
const BATCH_NOTES: usize = 1000;
/// Last uses are written this often.
const USES_AGE: Duration = Duration::from_secs(5);
/// Dead links are removed this often.
const EXPIRE_AGE: Duration = Duration::from_secs(3600);
/// A batch that cannot be written is tried again this often, this many times.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRIES: u32 = 60;
const RETRY_NOTES: usize = 50_000;

/// How long a link lives without new proof.
pub(super) const LINK_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the thread is asked.
pub(super) enum Order {
    /// A change.
    Note(Note),
    /// A lookup; it answers by itself, and says whether SQLite found damage.
    Look(Box<dyn FnOnce(&Connection) -> bool + Send>),
    /// Commit everything up to here, then call.
    Flush(Box<dyn FnOnce() + Send>),
    /// Commit and end.
    Stop,
}

/// What the thread shares with those who send to it.
pub(super) struct Shared {
    /// Last uses that are not written yet, in microseconds since 1970.
    pub(super) uses: Mutex<HashMap<Digest, i64>>,
    /// The last time given out, in microseconds since 1970: times of use never repeat and never go back.
    pub(super) clock: AtomicI64,
    /// How often the catalog was made anew.
    pub(super) generation: Arc<AtomicU64>,
    /// How often something happened after which folder and catalog may differ.
    pub(super) doubts: AtomicU64,
    /// How many of these a walk over the folder has mended.
    pub(super) mended: AtomicU64,
    /// Asks for that walk.
    pub(super) walk: Sender<()>,
}

impl Shared {
    /// Now, later than any time given out before.
    pub(super) fn stamp(&self) -> i64 {
        let now = micros(SystemTime::now());
        let last = self.clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        now.max(last.unwrap_or(now) + 1)
    }
}

pub(super) struct Writer {
    connection: Connection,
    folder: PathBuf,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    batch: Vec<Note>,
    /// How many of the batch are in the open transaction; `None` without one.
    applied: Option<usize>,
    since: Instant,
    written: Totals,
    working: Totals,
    failures: u32,
    retry_at: Option<Instant>,
    uses_at: Instant,
    expire_at: Instant,
}

impl Writer {
    pub(super) fn new(
        opened: Opened,
        folder: PathBuf,
        ledger: Arc<Ledger>,
        shared: Arc<Shared>,
    ) -> rusqlite::Result<Self> {
        let now = Instant::now();
        let mut writer = Self {
            connection: opened.connection,
            folder,
            ledger,
            shared,
            batch: Vec::new(),
            applied: None,
            since: now,
            written: Totals::default(),
            working: Totals::default(),
            failures: 0,
            retry_at: None,
            uses_at: now + USES_AGE,
            expire_at: now,
        };
        let clock = writer.load_totals()?;
        writer.shared.clock.fetch_max(clock, Ordering::Relaxed);
        Ok(writer)
    }

    /// Works until it is told to stop, or nobody is left to tell it.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let order = match orders.recv_timeout(self.patience()) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Order::Stop),
            };
            match order {
                None => {}
                Some(Order::Note(note)) => self.add(note),
                Some(Order::Look(look)) => {
                    if look(&self.connection) {
                        self.renew();
                    }
                }
                Some(Order::Flush(done)) => {
                    self.take_uses();
                    self.commit();
                    done();
                }
                Some(Order::Stop) => return self.stop(),
            }
            self.tend();
        }
    }

    fn stop(mut self) {
        self.take_uses();
        self.retry_at = None;
        self.commit();
        if !self.batch.is_empty() {
            self.give_up();
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the catalog did not close cleanly");
        }
    }

    /// How long to wait for an order before there is something to do.
    fn patience(&self) -> Duration {
        let batch = (!self.batch.is_empty()).then_some(self.retry_at.unwrap_or(self.since + BATCH_AGE));
        let next = [Some(self.uses_at), Some(self.expire_at), batch].into_iter().flatten().min();
        next.map_or(USES_AGE, |next| next.saturating_duration_since(Instant::now()))
    }

    fn tend(&mut self) {
        let now = Instant::now();
        if now >= self.expire_at {
            self.expire_at = now + EXPIRE_AGE;
            self.add(Note::Expire { before: micros(SystemTime::now() - LINK_LIFE) });
        }
        if now >= self.uses_at {
            self.uses_at = now + USES_AGE;
            self.take_uses();
        }
        let due = now >= self.retry_at.unwrap_or(self.since + BATCH_AGE) || self.batch.len() >= BATCH_NOTES;
        if due && !self.batch.is_empty() {
            self.commit();
        }
    }

    fn take_uses(&mut self) {
        let uses = mem::take(&mut *lock(&self.shared.uses));
        if !uses.is_empty() {
            self.add(Note::Used(uses));
        }
    }

    fn add(&mut self, note: Note) {
        if self.batch.is_empty() {
            self.since = Instant::now();
        }
        self.batch.push(note);
        if let Err(error) = self.apply() {
            self.failed(&error);
        }
    }

    /// Applies what is not in the transaction yet.
    fn apply(&mut self) -> rusqlite::Result<()> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.retry_at = None;
        if self.applied.is_none() {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            self.applied = Some(0);
            self.working = self.written;
        }
        while let Some(note) = self.applied.and_then(|applied| self.batch.get(applied)) {
            note.apply(&self.connection, &mut self.working)?;
            self.applied = self.applied.map(|applied| applied + 1);
        }
        Ok(())
    }

    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.try_commit() {
            Ok(true) => {
                self.written = self.working;
                let charges: Vec<Charge> = self.batch.drain(..).filter_map(Note::charge).collect();
                self.ledger.publish(self.written, charges.into_iter());
                if mem::take(&mut self.failures) > 0 {
                    tracing::info!("the catalog is written again");
                }
            }
            Ok(false) => {}
            Err(error) => self.failed(&error),
        }
    }

    /// Whether the whole batch is committed.
    fn try_commit(&mut self) -> rusqlite::Result<bool> {
        self.apply()?;
        if self.applied.is_none() {
            return Ok(false);
        }
        let clock = self.shared.clock.load(Ordering::Relaxed);
        self.connection.prepare_cached("UPDATE totals SET bytes = ?1, entries = ?2, clock = ?3")?.execute((
            self.working.bytes,
            self.working.entries,
            clock,
        ))?;
        self.connection.execute_batch("COMMIT")?;
        self.applied = None;
        Ok(true)
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        let at = self.applied.take();
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK"); // it fails where SQLite did it by itself
        }
        if is_damage(error) {
            return self.renew();
        }
        if let Some(at) = at.filter(|at| *at < self.batch.len() && !is_passing(error)) {
            // Something about this one note, which no second try will change.
            tracing::warn!(%error, "the catalog refuses a note, which is dropped");
            let note = self.batch.remove(at);
            self.forsake(&note);
            return;
        }
        if self.failures == 0 {
            tracing::warn!(%error, "the catalog cannot be written: it is tried again");
        }
        self.failures += 1;
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        if self.failures > RETRIES || self.batch.len() > RETRY_NOTES {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        tracing::error!(notes = self.batch.len(), "the catalog stays unwritable: what it should have learned is lost");
        for note in mem::take(&mut self.batch) {
            self.forsake(&note);
        }
        self.failures = 0;
    }

    fn forsake(&self, note: &Note) {
        if note.is_about_blobs() {
            self.shared.doubts.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Makes a damaged catalog anew, empty, and asks for the walk that fills it.
    fn renew(&mut self) {
        tracing::warn!("the catalog is damaged: it is moved aside and made anew from the blobs");
        self.applied = None;
        self.shared.doubts.fetch_add(1, Ordering::AcqRel);
        let anew = Connection::open_in_memory().map(|nowhere| drop(mem::replace(&mut self.connection, nowhere)));
        let opened = anew
            .map_err(|source| Error::Catalog { doing: "be closed", source })
            .and_then(|()| schema::move_aside(&self.folder))
            .and_then(|()| schema::open(&self.folder));
        match opened {
            Ok(opened) => self.connection = opened.connection,
            Err(error) => {
                // The pulls go on, and this process forgets links and tags when it ends.
                tracing::error!(%error, "no new catalog can be made: it is kept in memory only");
                let _ = schema::make(&mut self.connection);
            }
        }
        self.written = Totals::default();
        self.ledger.publish(self.written, std::iter::empty());
        self.shared.generation.fetch_add(1, Ordering::Release);
        let _ = self.shared.walk.send(()); // nobody listens when the store is closing
    }

    fn load_totals(&mut self) -> rusqlite::Result<i64> {
        let (bytes, entries, clock) =
            self.connection.query_row("SELECT bytes, entries, clock FROM totals", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        self.written = Totals { bytes, entries };
        self.working = self.written;
        self.ledger.publish(self.written, std::iter::empty());
        Ok(clock)
    }
}

/// Whether a second try may succeed.
fn is_passing(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}
