//! Counts one kind of thing against a limit, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A count.
#[derive(Debug, Default)]
pub struct Count(AtomicUsize);

impl Count {
    /// Adds one if there are fewer than `most`, and returns whether it did. Each must [`leave`](Self::leave).
    pub fn enter(&self, most: usize) -> bool {
        // Counted first, so that no two take the last place; the one that finds no place takes its count back.
        let entered = self.0.fetch_add(1, Ordering::Relaxed) < most;
        if !entered {
            self.leave();
        }
        entered
    }

    /// Subtracts one.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A limit. Clones count together.
#[derive(Clone, Debug)]
pub struct Limit(Arc<Limited>);

#[derive(Debug)]
struct Limited {
    most: AtomicUsize,
    used: Count,
    refused: AtomicU64,
}

/// One counted thing, released when it is dropped.
#[derive(Debug)]
pub struct Taken(Limit);

impl Limit {
    /// At most `most` at a time.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Limited { most: most.into(), used: Count::default(), refused: 0.into() }))
    }

    /// Takes one; `None` if the limit is reached.
    #[must_use]
    pub fn take(&self) -> Option<Taken> {
        let entered = self.0.used.enter(self.most());
        if !entered {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        entered.then(|| Taken(self.clone()))
    }

    /// Takes one, even above the limit.
    #[must_use]
    pub fn take_anyway(&self) -> Taken {
        self.0.used.enter(usize::MAX);
        Taken(self.clone())
    }

    /// Changes the limit. Things that are taken stay taken.
    pub fn set(&self, most: usize) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// The limit.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// How many were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// How many there are.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.now()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.used.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let limit = Limit::new(2);
        let (one, two) = (limit.take(), limit.take());
        assert!(one.is_some() && two.is_some() && limit.take().is_none());
        let more = limit.take_anyway();
        drop(one);
        assert!(limit.take().is_none(), "two are out");
        drop(more);
        assert!(limit.take().is_some());
        limit.set(0);
        assert!(limit.take().is_none());
        drop(two);
        assert_eq!((limit.used(), limit.most(), limit.refused()), (0, 0, 3));
    }
}
