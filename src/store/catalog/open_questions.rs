//! Tells whether the catalog's thread answers, so that nobody waits for one that hangs with the disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::store::lock::lock;

/// The questions that wait for the thread.
#[derive(Default)]
pub(crate) struct OpenQuestions {
    asked: AtomicU64,
    answered: AtomicU64,
    /// How many were answered when [`OpenQuestions::attend`] last found that it goes on, and when that was.
    seen: Mutex<Option<(u64, Instant)>>,
    hangs: watch::Sender<bool>,
}

/// A question that the thread has. Dropping it says that it was answered, or was given up.
pub(crate) struct OpenQuestion(Arc<OpenQuestions>);

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Release);
    }
}

impl OpenQuestions {
    /// A question is sent.
    pub(crate) fn ask(self: &Arc<Self>) -> OpenQuestion {
        self.asked.fetch_add(1, Ordering::Release);
        OpenQuestion(Arc::clone(self))
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
