//! Bounds the space of uploads that no registry has accepted yet.
//!
//! Threat: a client stages bytes that nobody ever accepts, and evicts with them what was pulled. Defence: all uploads together
//! evict no more than an eighth of the cache. Beyond that they take only space that is free, up to half of the cache, and
//! an upload whose next bytes find none is not cached. Cost: a push that is larger than an eighth of a full cache is not kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::{Store, StoreUsage};

/// They may evict so much for their bytes: this part of the limit.
const EVICTING_PART: u64 = 8;
/// And take so much that is free.
const MOST_PART: u64 = 2;
/// Space is free below so many percent of the limit. Above that the cache evicts ahead of need.
const FREE_PERCENT: u64 = 94;

/// The space of all uploads. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct Room {
    store: Store,
    taken: Arc<AtomicU64>,
}

/// The space of one upload, given back when it is dropped.
pub(crate) struct UploadShare {
    room: Room,
    length: u64,
}

impl Room {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, taken: Arc::default() }
    }

    /// Whether so many bytes more may be staged.
    pub(crate) fn has(&self, length: u64) -> bool {
        let taken = self.taken.load(Ordering::Acquire).saturating_add(length);
        is_little(&self.store.usage(), taken, length)
    }

    /// The share of an upload that has brought nothing yet.
    pub(crate) fn share(&self) -> UploadShare {
        UploadShare { room: self.clone(), length: 0 }
    }
}

impl UploadShare {
    /// Takes space for so many bytes more. Returns whether there is any.
    pub(crate) fn grow(&mut self, length: u64) -> bool {
        let taken = self.room.taken.fetch_add(length, Ordering::AcqRel).saturating_add(length);
        self.length = self.length.saturating_add(length);
        is_little(&self.room.store.usage(), taken, length)
    }
}

impl Drop for UploadShare {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.length, Ordering::AcqRel);
    }
}

/// Whether `more` bytes fit, with which all uploads have `taken` so many.
fn is_little(usage: &StoreUsage, taken: u64, more: u64) -> bool {
    let StoreUsage { bytes, limit, disk_free, min_free, .. } = *usage;
    let is_free =
        bytes.saturating_add(more) <= limit / 100 * FREE_PERCENT && disk_free >= min_free.saturating_add(more);
    taken <= limit / EVICTING_PART || is_free && taken <= limit / MOST_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_accepted_evicts_an_eighth_at_most_and_takes_half_where_it_is_free() {
        // bytes, free on the disk, taken with the new ones, new ones
        let table = [
            ((0, 1000, 500, 100), true),
            ((0, 1000, 501, 100), false),
            ((900, 1000, 125, 100), true),
            ((900, 1000, 126, 100), false),
            ((800, 1000, 200, 100), true),
            ((0, 149, 200, 100), false),
            ((0, 150, 200, 100), true),
        ];
        for ((bytes, disk_free, taken, more), expected) in table {
            let usage = StoreUsage { bytes, limit: 1000, disk_free, min_free: 50, ..StoreUsage::default() };
            assert_eq!(is_little(&usage, taken, more), expected, "{bytes} {disk_free} {taken} {more}");
        }
    }
}
