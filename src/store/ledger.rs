//! Counts the bytes in the folder, in memory: committed blobs as the catalog counts them, and pending charges.
//!
//! A [`Charge`] is an amount that the catalog does not count yet: the bytes of a staged file, then those of the
//! committed blob until its row is written, or, below zero, the bytes that an eviction freed. It is released in the
//! same instant in which the new count of the catalog is published, so that nothing is counted twice or not at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::lock::lock;

/// The usage and the limits of the cache, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Blobs and staged files together.
    pub bytes: u64,
    /// Committed blobs, manifests included.
    pub entries: u64,
    /// The limit of `bytes`.
    pub limit: u64,
    /// Blobs evicted since the start.
    pub evictions: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Damaged chunks found since the start. Those of one blob count once until it is replaced.
    pub damaged: u64,
    /// The free space of the file system, as last measured.
    pub disk_free: u64,
    /// The size of the file system.
    pub disk_size: u64,
    /// The space that the file system should keep free.
    pub min_free: u64,
}

/// Other files that fill the file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Squeeze {
    /// What they take.
    pub(crate) others: u64,
    /// How much less is free than should be.
    pub(crate) missing: u64,
}

/// Committed blobs, as the catalog counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) bytes: i64,
    pub(crate) entries: i64,
}

#[derive(Debug, Default)]
struct Book {
    known: Totals,
    pending: Totals,
}

/// The counts of the folder.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    book: Mutex<Book>,
    pub(crate) limit: u64,
    pub(crate) min_free: u64,
    pub(crate) disk_free: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) evicted_bytes: AtomicU64,
    pub(crate) disk_size: u64,
}

/// Bytes and entries that count until this is dropped or published.
#[derive(Debug)]
pub(crate) struct Charge {
    ledger: Arc<Ledger>,
    amount: Totals,
}

impl Ledger {
    pub(crate) fn new(limit: u64, min_free: u64, disk_free: u64) -> Self {
        Self { limit, min_free, disk_free: disk_free.into(), ..Self::default() }
    }

    /// On a file system of this many bytes.
    pub(crate) fn on(self, disk_size: u64) -> Self {
        Self { disk_size, ..self }
    }

    /// Blobs and staged files together, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let book = lock(&self.book);
        (book.known.bytes + book.pending.bytes).max(0).cast_unsigned()
    }

    pub(crate) fn usage(&self) -> StoreUsage {
        let entries = {
            let book = lock(&self.book);
            (book.known.entries + book.pending.entries).max(0).cast_unsigned()
        };
        StoreUsage {
            bytes: self.bytes(),
            entries,
            limit: self.limit,
            evictions: self.evictions.load(Ordering::Relaxed),
            evicted_bytes: self.evicted_bytes.load(Ordering::Relaxed),
            damaged: 0,
            disk_size: self.disk_size,
            disk_free: self.disk_free.load(Ordering::Relaxed),
            min_free: self.min_free,
        }
    }

    /// What other files take of the file system, if they leave the cache less than half of what it may have and less is
    /// free than should be.
    pub(crate) fn squeeze(&self) -> Option<Squeeze> {
        let (ours, free) = (self.bytes(), self.disk_free.load(Ordering::Relaxed));
        let missing = self.min_free.checked_sub(free).filter(|missing| *missing > 0)?;
        let allowed = self.limit.min(self.disk_size.saturating_sub(self.min_free));
        let is_squeezed = ours.saturating_sub(missing) < allowed / 2;
        is_squeezed.then(|| Squeeze { others: self.disk_size.saturating_sub(free).saturating_sub(ours), missing })
    }

    /// Publishes the catalog's new count `known`, which includes these charges.
    pub(crate) fn publish(&self, known: Totals, charges: impl Iterator<Item = Charge>) {
        let mut book = lock(&self.book);
        book.known = known;
        for mut charge in charges {
            book.pending.bytes -= charge.amount.bytes;
            book.pending.entries -= charge.amount.entries;
            charge.amount = Totals::default();
            // Dropped after it is empty: its Drop must not take the lock that is held here.
        }
    }

    /// Starts a charge.
    pub(crate) fn charge(self: &Arc<Self>, bytes: i64, entries: i64) -> Charge {
        let mut charge = Charge { ledger: Arc::clone(self), amount: Totals::default() };
        charge.add(bytes, entries);
        charge
    }
}

impl Charge {
    /// The bytes that it stands for; 0 where it is negative.
    pub(crate) fn bytes(&self) -> u64 {
        self.amount.bytes.max(0).cast_unsigned()
    }

    /// Adds an amount, which may be negative.
    pub(crate) fn add(&mut self, bytes: i64, entries: i64) {
        let mut book = lock(&self.ledger.book);
        book.pending.bytes += bytes;
        book.pending.entries += entries;
        self.amount.bytes += bytes;
        self.amount.entries += entries;
    }

    /// Sets the amount.
    pub(crate) fn become_bytes(&mut self, bytes: i64, entries: i64) {
        self.add(bytes - self.amount.bytes, entries - self.amount.entries);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.amount != Totals::default() {
            self.add(-self.amount.bytes, -self.amount.entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_is_settled_is_counted_once() {
        let ledger = Arc::new(Ledger::new(100, 0, 0));
        let mut staged = ledger.charge(10, 0);
        staged.add(20, 0);
        assert_eq!(ledger.bytes(), 30);
        staged.become_bytes(25, 1);
        let known = Totals { bytes: 25, entries: 1 };
        ledger.publish(known, [staged].into_iter());
        assert_eq!((ledger.usage().bytes, ledger.usage().entries), (25, 1));
        let evicted = ledger.charge(-25, -1);
        assert_eq!((ledger.usage().bytes, ledger.usage().entries), (0, 0));
        drop(evicted);
        assert_eq!(ledger.bytes(), 25, "an eviction that the catalog never took is not one");
    }

    #[test]
    fn other_files_are_told_from_a_cache_that_fills_its_disk() {
        // size, limit, min_free, free, ours
        let table = [
            ((1000, 500, 150, 200, 100), None),  // enough is free
            ((1000, 500, 150, 140, 400), None),  // the cache is as large as it may be
            ((1000, 5000, 150, 100, 900), None), // and so it is here, by itself
            ((1000, 500, 150, 50, 100), Some(Squeeze { others: 850, missing: 100 })), // the others are
            ((1000, 500, 150, 0, 0), Some(Squeeze { others: 1000, missing: 150 })),
        ];
        for ((size, limit, min_free, free, ours), expected) in table {
            let ledger = Arc::new(Ledger::new(limit, min_free, free).on(size));
            let _ours = ledger.charge(ours, 1);
            assert_eq!(ledger.squeeze(), expected, "{size} {limit} {min_free} {free} {ours}");
        }
    }

    #[test]
    fn charges_of_several_threads_add_up_whatever_the_schedule() {
        let ledger = Arc::new(Ledger::new(100, 0, 0));
        let stage = || {
            for _ in 0..3 {
                let mut staged = ledger.charge(10, 0);
                thread::yield_now();
                staged.become_bytes(7, 1);
            }
        };
        let publish = || {
            for entries in 1..4 {
                let known = Totals { bytes: 5 * entries, entries };
                let stored = ledger.charge(5, 1);
                thread::yield_now();
                ledger.publish(known, [stored].into_iter());
            }
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(stage);
            }
            scope.spawn(publish);
        });
        assert_eq!((ledger.usage().bytes, ledger.usage().entries), (15, 3));
    }
}
