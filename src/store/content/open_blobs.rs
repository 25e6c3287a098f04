//! Shares one open file among all readers of a blob.
//!
//! The race: a name is removed, or gets another file, while a reader opens it. So a reader looks here before it opens
//! the file, and the opened file is shared only if no name was forgotten in between.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, Weak};

use crate::oci::Digest;
use crate::store::lock::lock;

const SHARDS: usize = 16;

/// The open blobs by their names. It keeps none of them open.
pub(crate) struct OpenBlobs<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    shard_of: RandomState,
}

struct Shard<T> {
    open: HashMap<Digest, Weak<T>>,
    /// The number of times that a name was forgotten.
    forgotten: u64,
}

/// Proof that a name was not open at this moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotOpen(u64);

impl<T> OpenBlobs<T> {
    pub(crate) fn new() -> Self {
        let shard = |_| Mutex::new(Shard { open: HashMap::new(), forgotten: 0 });
        Self { shards: std::array::from_fn(shard), shard_of: RandomState::new() }
    }

    /// Returns the open blob, or the right to share the one that the caller opens now.
    pub(crate) fn get(&self, digest: &Digest) -> Result<Arc<T>, NotOpen> {
        let shard = lock(self.shard(digest));
        shard.open.get(digest).and_then(Weak::upgrade).ok_or(NotOpen(shard.forgotten))
    }

    /// Shares a blob that was opened after `not_open`. If another reader was faster, returns that one instead.
    pub(crate) fn share(&self, digest: &Digest, opened: Arc<T>, not_open: NotOpen) -> Arc<T> {
        let mut shard = lock(self.shard(digest));
        if shard.forgotten != not_open.0 {
            return opened;
        }
        if let Some(earlier) = shard.open.get(digest).and_then(Weak::upgrade) {
            drop(shard); // before `opened` is dropped, which locks again
            return earlier;
        }
        shard.open.insert(*digest, Arc::downgrade(&opened));
        opened
    }

    /// Hides the name from new readers: it is gone, has another file, or its file is damaged.
    pub(crate) fn forget(&self, digest: &Digest) {
        let mut shard = lock(self.shard(digest));
        shard.forgotten += 1;
        shard.open.remove(digest);
    }

    /// Removes a blob that was closed.
    pub(crate) fn closed(&self, digest: &Digest) {
        let mut shard = lock(self.shard(digest));
        if shard.open.get(digest).is_some_and(|open| open.strong_count() == 0) {
            shard.open.remove(digest);
        }
    }

    fn shard(&self, digest: &Digest) -> &Mutex<Shard<T>> {
        &self.shards[self.shard_of.hash_one(digest) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::oci::Algorithm;

    fn digest() -> Digest {
        Digest::of(Algorithm::Sha256, b"x")
    }

    fn not_open(opened: &OpenBlobs<u8>) -> NotOpen {
        opened.get(&digest()).unwrap_err()
    }

    #[test]
    fn one_is_open_for_all() {
        let opened = OpenBlobs::new();
        let (first, second) = (not_open(&opened), not_open(&opened));
        let one = opened.share(&digest(), Arc::new(1), first);
        assert_eq!((*opened.share(&digest(), Arc::new(2), second), *opened.get(&digest()).unwrap()), (1, 1));
        drop(one);
        opened.closed(&digest());
        assert!(opened.get(&digest()).is_err() && opened.shards.iter().all(|shard| lock(shard).open.is_empty()));
    }

    #[test]
    fn what_was_opened_before_its_name_went_is_not_shared() {
        let opened = OpenBlobs::new();
        let before = not_open(&opened);
        opened.forget(&digest());
        let own = opened.share(&digest(), Arc::new(1), before);
        assert!(*own == 1 && opened.get(&digest()).is_err());
        let after = not_open(&opened);
        let kept = opened.share(&digest(), Arc::new(2), after);
        opened.forget(&digest());
        assert!(*kept == 2 && opened.get(&digest()).is_err(), "its readers keep it, and new readers do not find it");
    }

    #[test]
    fn a_removed_file_is_never_shared_whatever_the_schedule() {
        let (opened, file) = (OpenBlobs::new(), AtomicUsize::new(0));
        let read = || {
            for _ in 0..6 {
                let open = match opened.get(&digest()) {
                    Ok(open) => open,
                    Err(not_open) => {
                        let found = file.load(Ordering::SeqCst); // as a reader opens the file that has the name
                        opened.share(&digest(), Arc::new(found), not_open)
                    }
                };
                thread::yield_now();
                drop(open);
                opened.closed(&digest());
            }
        };
        let replace = || {
            for version in 1..5 {
                file.store(version, Ordering::SeqCst);
                opened.forget(&digest());
                thread::yield_now();
                assert!(opened.get(&digest()).map_or(true, |open| *open >= version));
            }
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(read);
            }
            scope.spawn(replace);
        });
    }
}
