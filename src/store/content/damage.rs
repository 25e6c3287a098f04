//! Hides blobs in which a read found a damaged granule from every new reader, until they are verified.
//!
//! The read may be on a network task, so it only reports the damage; a thread verifies the file by its full digest and
//! drops it. A suspect is identified by its inode, so that a new file under the same name is not suspected.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::oci::Digest;
use crate::store::lock::lock;

/// The identity of a file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode(u64, u64);

impl Inode {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// The suspected files.
pub(crate) struct Suspects {
    by: Mutex<HashMap<Digest, Inode>>,
    /// Their number: a hit reads this and takes no lock.
    count: AtomicUsize,
    found: AtomicU64,
    tell: Box<dyn Fn(Digest) + Send + Sync>,
}

impl Suspects {
    /// `tell` is called with every new suspect. It must not block.
    pub(crate) fn new(tell: impl Fn(Digest) + Send + Sync + 'static) -> Self {
        Self { by: Mutex::default(), count: 0.into(), found: 0.into(), tell: Box::new(tell) }
    }

    /// Adds a file in which damage was found. Returns whether it was not suspected yet.
    pub(crate) fn add(&self, digest: &Digest, inode: Inode) -> bool {
        let mut by = lock(&self.by);
        let is_new = by.insert(*digest, inode) != Some(inode);
        self.count.store(by.len(), Ordering::Release);
        drop(by);
        if is_new {
            self.count_one();
            (self.tell)(*digest);
        }
        is_new
    }

    /// Counts one more damaged granule.
    pub(crate) fn count_one(&self) {
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    /// The suspected file of this name.
    pub(crate) fn inode(&self, digest: &Digest) -> Option<Inode> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        lock(&self.by).get(digest).copied()
    }

    /// Clears the suspicion, since the name has a new file.
    pub(crate) fn clear(&self, digest: &Digest) {
        self.clear_if(digest, |_| true);
    }

    /// Clears this file, which was verified. A newer suspect of the same name stays.
    pub(crate) fn clear_one(&self, digest: &Digest, inode: Inode) {
        self.clear_if(digest, |suspect| suspect == inode);
    }

    fn clear_if(&self, digest: &Digest, is_it: impl Fn(Inode) -> bool) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut by = lock(&self.by);
            if by.get(digest).is_some_and(|suspect| is_it(*suspect)) {
                by.remove(digest);
            }
            self.count.store(by.len(), Ordering::Release);
        }
    }

    /// The damaged granules found since the start. Those of one blob count once until it is replaced.
    pub(crate) fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }
}
