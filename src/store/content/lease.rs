//! Tracks the readers of each blob: leases of a digest and its eviction exclude each other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use crate::oci::Digest;
use crate::store::lock::lock;

#[derive(Debug)]
enum Hold {
    Read(usize),
    Evicted,
}

/// The leases and evictions in progress, in memory.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<Digest, Hold>>,
}

/// Keeps a digest from being evicted while it lives.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Arc<Leases>,
    digest: Digest,
}

/// Keeps readers from a digest while it is evicted: to them it is gone already.
#[derive(Debug)]
pub(crate) struct Eviction {
    leases: Arc<Leases>,
    digest: Digest,
}

impl Leases {
    /// Takes a lease; `None` while the blob is being evicted.
    pub(crate) fn take(self: &Arc<Self>, digest: &Digest) -> Option<Lease> {
        match lock(&self.held).entry(*digest).or_insert(Hold::Read(0)) {
            Hold::Read(count) => *count += 1,
            Hold::Evicted => return None,
        }
        Some(Lease { leases: Arc::clone(self), digest: *digest })
    }

    /// Takes the right to evict; `None` while it is being read.
    pub(crate) fn evict(self: &Arc<Self>, digest: &Digest) -> Option<Eviction> {
        match lock(&self.held).entry(*digest) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(free) => free.insert(Hold::Evicted),
        };
        Some(Eviction { leases: Arc::clone(self), digest: *digest })
    }

    /// Whether the blob is being read or evicted.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        lock(&self.held).contains_key(digest)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Entry::Occupied(mut hold) = lock(&self.leases.held).entry(self.digest) {
            match hold.get_mut() {
                Hold::Read(count) if *count > 1 => *count -= 1,
                _ => drop(hold.remove()),
            }
        }
    }
}

impl Drop for Eviction {
    fn drop(&mut self) {
        lock(&self.leases.held).remove(&self.digest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_lease_and_an_eviction_exclude_each_other() {
        let leases = Arc::new(Leases::default());
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let (one, two) = (leases.take(&digest), leases.take(&digest));
        assert!(one.is_some() && leases.evict(&digest).is_none());
        drop(one);
        assert!(leases.evict(&digest).is_none(), "one reader is left");
        drop(two);
        assert!(!leases.holds(&digest));
        let eviction = leases.evict(&digest);
        assert!(eviction.is_some() && leases.take(&digest).is_none() && leases.evict(&digest).is_none());
        drop(eviction);
        assert!(leases.take(&digest).is_some());
    }

    #[test]
    fn readers_and_evictions_never_overlap_whatever_the_schedule() {
        let (leases, digest) = (Arc::new(Leases::default()), Digest::of(Algorithm::Sha256, b"x"));
        let (readers, is_evicted) = (AtomicUsize::new(0), AtomicBool::new(false));
        let read = || {
            for _ in 0..4 {
                let Some(_lease) = leases.take(&digest) else { continue };
                readers.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
                assert!(!is_evicted.load(Ordering::SeqCst));
                readers.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let evict = || {
            for _ in 0..4 {
                let Some(_eviction) = leases.evict(&digest) else { continue };
                is_evicted.store(true, Ordering::SeqCst);
                thread::yield_now();
                assert_eq!(readers.load(Ordering::SeqCst), 0);
                is_evicted.store(false, Ordering::SeqCst);
            }
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(read);
            }
            for _ in 0..2 {
                scope.spawn(evict);
            }
        });
        assert!(!leases.holds(&digest));
    }
}
