//! Owns the catalog's connection, and applies changes in one transaction at a time.
//!
//! A batch that SQLite cannot write (no space, a failing disk) is kept and tried again. One that stays unwritable is
//! dropped, and the store records that folder and catalog differ, so that a rebuild finds the lost changes.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::change::Change;
use super::command::WriterState;
use super::schema::{self, OpenedCatalog, is_damage, is_passing};
use crate::store::ledger::{Charge, Ledger, Totals};
use crate::store::{DiskFault, Error};

/// A batch is committed this long after its first change, or when it is this large.
const AGE: Duration = Duration::from_millis(100);
const CHANGES: usize = 1000;
/// How often a batch that cannot be written is tried again, and how many times.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRIES: u32 = 60;
const RETRY_CHANGES: usize = 50_000;

pub(crate) struct Batch {
    connection: Connection,
    folder: PathBuf,
    ledger: Arc<Ledger>,
    shared: Arc<WriterState>,
    changes: Vec<Change>,
    /// The number of changes in the open transaction; `None` without one.
    applied: Option<usize>,
    since: Instant,
    written: Totals,
    working: Totals,
    failures: u32,
    retry_at: Option<Instant>,
    /// Changes about blobs were lost: a rebuild finds them once the catalog can be written.
    has_lost: bool,
}

impl Batch {
    pub(crate) fn new(
        opened: OpenedCatalog,
        folder: PathBuf,
        ledger: Arc<Ledger>,
        shared: Arc<WriterState>,
    ) -> rusqlite::Result<Self> {
        let mut batch = Self {
            connection: opened.connection,
            folder,
            ledger,
            shared,
            changes: Vec::new(),
            applied: None,
            since: Instant::now(),
            written: Totals::default(),
            working: Totals::default(),
            failures: 0,
            retry_at: None,
            has_lost: false,
        };
        let clock = batch.load_totals()?;
        batch.shared.clock.fetch_max(clock, Ordering::Relaxed);
        Ok(batch)
    }

    /// The time of the next commit, if there is anything to commit.
    pub(crate) fn due(&self) -> Option<Instant> {
        let at = if self.changes.len() >= CHANGES { self.since } else { self.since + AGE };
        (!self.changes.is_empty()).then_some(self.retry_at.unwrap_or(at))
    }

    /// Answers a lookup, which sees every change that could be applied.
    pub(crate) fn query(&mut self, query: Box<dyn FnOnce(&Connection) -> bool + Send>) {
        let is_damaged = query(&self.connection);
        if is_damaged {
            self.renew();
        }
    }

    /// Commits what can be committed and makes it durable.
    pub(crate) fn close(mut self) {
        self.retry_at = None;
        self.commit();
        if !self.changes.is_empty() {
            self.give_up();
        }
        // The folder is marked clean after this, so everything in the catalog must be on the disk: with other
        // connections still open, closing this one does not ensure that.
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        if busy != Ok(false) {
            tracing::warn!("the catalog did not close cleanly");
            self.shared.divergences.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Adds a change and applies it.
    pub(crate) fn add(&mut self, change: Change) {
        if self.changes.is_empty() {
            self.since = Instant::now();
        }
        self.changes.push(change);
        if let Err(error) = self.apply() {
            self.failed(&error);
        }
    }

    /// Applies the changes that are not in the transaction yet.
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
        while let Some(change) = self.applied.and_then(|applied| self.changes.get(applied)) {
            change.apply(&self.connection, &mut self.working)?;
            self.applied = self.applied.map(|applied| applied + 1);
        }
        Ok(())
    }

    /// Commits the batch, if SQLite can.
    pub(crate) fn commit(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        match self.try_commit() {
            Ok(true) => {
                self.written = self.working;
                let charges: Vec<Charge> = self.changes.drain(..).filter_map(Change::charge).collect();
                self.ledger.publish(self.written, charges.into_iter());
                self.shared.health.set_catalog(None);
                if mem::take(&mut self.failures) > 0 {
                    tracing::info!("the catalog can be written again");
                }
                if mem::take(&mut self.has_lost) {
                    let _ = self.shared.rebuild.send(()); // a closing store has no receiver
                }
            }
            Ok(false) => {}
            Err(error) => self.failed(&error),
        }
    }

    /// Returns whether the whole batch is committed.
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
            let _ = self.connection.execute_batch("ROLLBACK"); // fails where SQLite rolled back by itself
        }
        if is_damage(error) {
            return self.renew();
        }
        if let Some(at) = at.filter(|at| *at < self.changes.len() && !is_passing(error)) {
            // The fault lies in this one change, so a second try would fail too.
            tracing::warn!(%error, "SQLite refused a change to the catalog: dropped it");
            let change = self.changes.remove(at);
            self.lose(&change);
            return;
        }
        if self.failures == 0 && !self.has_lost {
            tracing::warn!(%error, "cannot write the catalog: will try again");
        }
        self.shared.health.set_catalog(fault(error));
        self.failures += 1;
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        if self.failures > RETRIES || self.changes.len() > RETRY_CHANGES {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        let (kept, lost): (Vec<Change>, Vec<Change>) =
            mem::take(&mut self.changes).into_iter().partition(Change::is_withdrawal);
        if !lost.is_empty() {
            tracing::error!(notes = lost.len(), "the catalog stays unwritable: the pending changes are lost");
        }
        lost.iter().for_each(|change| self.lose(change));
        self.changes = kept; // they are few, and tried until they succeed
        self.failures = 0;
    }

    fn lose(&mut self, change: &Change) {
        if change.is_about_blobs() {
            self.has_lost = true;
            self.shared.divergences.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Replaces a damaged catalog by an empty one, and requests the rebuild that fills it.
    fn renew(&mut self) {
        tracing::warn!("the catalog is damaged: moving it aside and rebuilding it from the blobs");
        self.applied = None;
        self.shared.divergences.fetch_add(1, Ordering::AcqRel);
        let anew = Connection::open_in_memory().map(|nowhere| drop(mem::replace(&mut self.connection, nowhere)));
        let opened = anew
            .map_err(|source| Error::Catalog { doing: "be closed", source })
            .and_then(|()| schema::move_aside(&self.folder))
            .and_then(|()| schema::open(&self.folder));
        match opened {
            Ok(opened) => self.connection = opened.connection,
            Err(error) => {
                // The pulls continue, and this process forgets links and tags when it ends.
                tracing::error!(%error, "cannot create a new catalog: keeping it in memory only");
                let _ = schema::make(&mut self.connection);
            }
        }
        self.written = Totals::default();
        self.ledger.publish(self.written, std::iter::empty());
        self.shared.generation.fetch_add(1, Ordering::Release);
        let _ = self.shared.rebuild.send(()); // a closing store has no receiver
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

/// What the error says about the disk.
fn fault(error: &rusqlite::Error) -> Option<DiskFault> {
    use ErrorCode::{CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
    match error.sqlite_error_code()? {
        DiskFull => Some(DiskFault::Full),
        CannotOpen | PermissionDenied | ReadOnly => Some(DiskFault::ReadOnly),
        SystemIoFailure => Some(DiskFault::Failing),
        _ => None,
    }
}
