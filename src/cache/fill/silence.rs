//! Measures how long a fill has brought nothing, and has it asked again when a new caller comes.
//!
//! A lane may wait for minutes on purpose: some registries store a blob before they serve it. It may also hang on a
//! connection that leads nowhere any more. Whoever comes for the content cannot tell, and has it asked beside.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A shorter pause is none.
const PAUSE: Duration = Duration::from_millis(500);

/// When something last came.
#[derive(Debug)]
pub(crate) struct Silence {
    since: Mutex<Instant>,
    bell: Notify,
}

impl Silence {
    pub(crate) fn new() -> Self {
        Self { since: Mutex::new(Instant::now()), bell: Notify::new() }
    }

    /// Something came.
    pub(crate) fn broken(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Somebody comes who waits for nothing that was asked before `fresh`. Rings at most once for each silence.
    pub(crate) fn hurry(&self, fresh: Option<Instant>) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.is_some_and(|fresh| *since < fresh) && since.elapsed() >= PAUSE {
            *since = Instant::now();
            self.bell.notify_waiters();
        }
    }

    /// Ends when somebody rings. Cancel-safe.
    pub(crate) async fn hurried(&self) {
        self.bell.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_silence_of_before_is_rung_for_and_once() {
        let silence = Silence::new();
        let second = Duration::from_secs(1);
        let rings = |fresh: Option<Instant>| {
            let heard = silence.hurried();
            let mut heard = Box::pin(heard);
            let before = futures_util::FutureExt::now_or_never(heard.as_mut());
            silence.hurry(fresh);
            before.is_none() && futures_util::FutureExt::now_or_never(heard.as_mut()).is_some()
        };
        tokio::time::advance(second).await;
        assert!(!rings(None) && !rings(Some(Instant::now() - 2 * second)));
        assert!(rings(Some(Instant::now())));
        assert!(!rings(Some(Instant::now())), "it is asked for just now");
        tokio::time::advance(second).await;
        silence.broken();
        assert!(!rings(Some(Instant::now() + second)), "something came a moment ago");
        tokio::time::advance(second).await;
        assert!(rings(Some(Instant::now())));
    }
}
