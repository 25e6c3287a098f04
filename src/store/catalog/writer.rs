//! Runs the thread that owns the catalog: it batches the changes and answers lookups in between.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use super::batch::Batch;
use super::change::Change;
use super::command::{WriterCommand, WriterState};
use super::key::micros;
use super::queue::Queue;
use crate::store::lock::lock;

/// How often last uses are written.
const USES_AGE: Duration = Duration::from_secs(5);
/// How often expired links are removed.
const EXPIRE_AGE: Duration = Duration::from_secs(3600);
/// When tags and places are pruned: this long after the start, which it must not slow, and then this often.
const PRUNE_FIRST: Duration = Duration::from_secs(600);
const PRUNE_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long a tag is remembered without confirmation by the registry, and how long its history is.
const TAG_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
const PAST_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The thread and its schedule.
pub(crate) struct CatalogWriter {
    batch: Batch,
    shared: Arc<WriterState>,
    queue: Arc<Queue>,
    uses_at: Instant,
    expire_at: Instant,
    prune_at: Instant,
}

impl CatalogWriter {
    pub(crate) fn new(batch: Batch, shared: Arc<WriterState>, queue: Arc<Queue>) -> Self {
        let now = Instant::now();
        Self { batch, shared, queue, uses_at: now + USES_AGE, expire_at: now, prune_at: now + PRUNE_FIRST }
    }

    /// Runs until it is told to stop, or the last sender is gone.
    pub(crate) fn run(mut self, commands: &Receiver<WriterCommand>) {
        loop {
            let command = match commands.recv_timeout(self.wait_time()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(WriterCommand::Stop),
            };
            match command {
                None => _ = self.queue.drain_retained(),
                Some(WriterCommand::Change(change)) => self.batch.add(change),
                Some(WriterCommand::Query(query)) => self.batch.query(query),
                Some(WriterCommand::Flush(done)) => {
                    self.take_uses();
                    self.batch.commit();
                    done();
                }
                Some(WriterCommand::Stop) => {
                    self.take_uses();
                    return self.batch.close();
                }
            }
            self.tend();
        }
    }

    /// How long to wait for a command before something is due.
    fn wait_time(&self) -> Duration {
        let next = self.uses_at.min(self.expire_at).min(self.prune_at);
        self.batch.due().map_or(next, |due| next.min(due)).saturating_duration_since(Instant::now())
    }

    fn tend(&mut self) {
        let now = Instant::now();
        if now >= self.expire_at {
            self.expire_at = now + EXPIRE_AGE;
            self.batch.add(Change::expire());
        }
        if now >= self.prune_at {
            self.prune_at = now + PRUNE_AGE;
            let before = |life| micros(SystemTime::now() - life);
            self.batch.add(Change::Prune { tags: before(TAG_LIFE), history: before(PAST_LIFE) });
        }
        if now >= self.uses_at {
            self.uses_at = now + USES_AGE;
            self.take_uses();
        }
        if self.batch.due().is_some_and(|due| now >= due) {
            self.batch.commit();
        }
    }

    fn take_uses(&mut self) {
        let uses = mem::take(&mut *lock(&self.shared.uses));
        if !uses.is_empty() {
            self.batch.add(Change::Used(uses));
        }
    }
}
