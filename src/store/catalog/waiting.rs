//! Tells whether the catalog's thread answers, so that nobody waits for one that hangs with the disk.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::store::lock::lock;

/// The questions that wait for the thread.
#[derive(Default)]
pub(crate) struct Waiting {
    asked: AtomicU64,
    answered: AtomicU64,
    /// How many were answered when [`Waiting::attend`] last found that it goes on, and when that was.
    seen: Mutex<Option<(u64, Instant)>>,
    hangs: watch::Sender<bool>,
}

impl Waiting {
    /// A question was sent.
    pub(crate) fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Release);
    }

    /// A question was answered.
    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Release);
    }

    /// Whether the thread hangs.
    pub(crate) fn hangs(&self) -> bool {
        *self.hangs.borrow()
    }

    /// Waits until it does. Cancel-safe.
    pub(crate) async fn hang(&self) {
        let _ = self.hangs.subscribe().wait_for(|hangs| *hangs).await; // the sender is here
    }

    /// Looks whether the thread has answered anything within `patience`. Returns whether it has begun to hang.
    pub(crate) fn attend(&self, patience: Duration) -> bool {
        let (asked, answered) = (self.asked.load(Ordering::Acquire), self.answered.load(Ordering::Acquire));
        let mut seen = lock(&self.seen);
        match *seen {
            Some((before, since)) if asked > answered && before == answered => {
                since.elapsed() >= patience && !self.hangs.send_replace(true)
            }
            _ => {
                *seen = Some((answered, Instant::now()));
                self.hangs.send_replace(false);
                false
            }
        }
    }
}
