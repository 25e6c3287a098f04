//! Counts what moves on one connection: how many streams it has had, and how much its client has taken of them.
//!
//! The streams of a connection hold it, and the connection finds its streams by weak references: neither keeps the
//! other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::usage::Usage;
use crate::host::Count;

/// The counters of a connection. Only the connection's own task writes what its client took.
pub(crate) struct Traffic {
    pub(crate) client: Arc<Usage>,
    opened: AtomicU64,
    /// The latest stream that took something.
    newest: AtomicU64,
    /// Bytes of answers that its client took, and when it took some last.
    passed: AtomicU64,
    last: AtomicU64,
    /// Slots whose streams are gone.
    free: Mutex<Vec<usize>>,
    /// Requests under way that are alone on it, as in HTTP/1.1.
    alone: Count,
}

impl Traffic {
    pub(crate) fn new(client: Arc<Usage>) -> Self {
        let now = client.totals.now.load(Ordering::Relaxed);
        Self {
            client,
            opened: 0.into(),
            newest: 0.into(),
            passed: 0.into(),
            last: now.into(),
            free: Mutex::default(),
            alone: Count::default(),
        }
    }

    /// Counts one more stream. Returns its number, from 1 on.
    pub(crate) fn open(&self) -> u64 {
        self.opened.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts one more request that is alone on the connection; each must [`leave_alone`](Self::leave_alone).
    pub(crate) fn enter_alone(&self) {
        self.alone.enter(usize::MAX);
        self.last.store(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn leave_alone(&self) {
        self.alone.leave();
    }

    /// Requests under way that are alone on it.
    pub(crate) fn alone(&self) -> usize {
        self.alone.now()
    }

    /// A slot to be used again.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        self.free().pop()
    }

    /// Gives back the slot of a stream that is gone.
    pub(crate) fn give_back(&self, slot: usize) {
        self.free().push(slot);
    }

    /// Counts bytes that the client took of the stream with this number. Returns how many bytes have passed in all, and
    /// the time, as the sweep counts it.
    pub(crate) fn took(&self, number: u64, bytes: u64) -> (u64, u64) {
        let now = self.now();
        let passed = self.passed() + bytes;
        self.last.store(now, Ordering::Relaxed);
        self.newest.store(self.newest().max(number), Ordering::Relaxed);
        self.passed.store(passed, Ordering::Relaxed);
        (passed, now)
    }

    /// How many streams it has had.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The number of the latest stream of which the client took something.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Bytes of answers that the client took.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// When the client took something last, in milliseconds of the sweep.
    pub(crate) fn moved(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// How long the client has taken nothing.
    pub(crate) fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.moved()))
    }

    /// The time in milliseconds, as the sweep counts it.
    pub(crate) fn now(&self) -> u64 {
        self.client.totals.now.load(Ordering::Relaxed)
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
