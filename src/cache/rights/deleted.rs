//! Remembers when something was deleted, so that an answer that was asked for before that is not believed after it.
//!
//! The times are kept by a hash: what shares one with something that was deleted is asked for once more than need be.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::asked_at::AskedAt;

const TIMES: usize = 4096;

/// When what was deleted last. The times are nanoseconds since it was made, and one more; 0 is never.
pub(crate) struct Deleted {
    begun: Instant,
    times: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Deleted {
    pub(crate) fn new() -> Self {
        let times = (0..TIMES).map(|_| AtomicU64::new(0)).collect();
        Self { begun: Instant::now(), times, hasher: RandomState::new() }
    }

    /// It is deleted by now.
    pub(crate) fn note(&self, key: &impl Hash) {
        self.time(key).fetch_max(self.since_begun(Instant::now()), Ordering::AcqRel);
    }

    /// Whether it was deleted after that was asked.
    pub(crate) fn is_since(&self, key: &impl Hash, asked: AskedAt) -> bool {
        self.time(key).load(Ordering::Acquire) >= self.since_begun(asked.instant)
    }

    fn since_begun(&self, instant: Instant) -> u64 {
        let passed = instant.saturating_duration_since(self.begun).as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn time(&self, key: &impl Hash) -> &AtomicU64 {
        let slot = usize::try_from(self.hasher.hash_one(key) % TIMES as u64).unwrap_or_default();
        &self.times[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_before_a_deletion_is_told_from_what_was_asked_after_it() {
        let deleted = Deleted::new();
        let before = AskedAt::now();
        assert!(!deleted.is_since(&1, before));
        deleted.note(&1);
        assert!(deleted.is_since(&1, before));
        let end = Instant::now() + std::time::Duration::from_nanos(1);
        let after = AskedAt { instant: end, ..before };
        assert!(!deleted.is_since(&1, after));
    }
}
