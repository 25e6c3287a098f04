//! How many of one thing there are, and how many there may be: counted without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit. Clones count together.
#[derive(Clone, Debug)]
pub struct Limit(Arc<Count>);

#[derive(Debug)]
struct Count {
    most: AtomicUsize,
    used: AtomicUsize,
}

/// One of the things, given back when it is dropped.
#[derive(Debug)]
pub struct Taken(Limit);

impl Limit {
    /// At most `most` at a time.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Count { most: most.into(), used: 0.into() }))
    }

    /// One more; `None` where there are as many as there may be.
    #[must_use]
    pub fn take(&self) -> Option<Taken> {
        self.take_below(self.most())
    }

    /// The same under another limit than its own.
    #[must_use]
    pub fn take_below(&self, most: usize) -> Option<Taken> {
        // Counted first, so that no two take the last place; who finds that there was none takes it back.
        if self.0.used.fetch_add(1, Ordering::Relaxed) < most {
            return Some(Taken(self.clone()));
        }
        self.0.used.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// One more, whatever the limit says.
    #[must_use]
    pub fn take_anyway(&self) -> Taken {
        self.0.used.fetch_add(1, Ordering::Relaxed);
        Taken(self.clone())
    }

    /// Another limit from now on. What is taken stays so.
    pub fn set(&self, most: usize) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// How many there may be.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// How many there are.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.used.fetch_sub(1, Ordering::Relaxed);
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
        assert_eq!((limit.used(), limit.most()), (0, 0));
    }
}
