//! Limits a message to once a minute, however often its event happens.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(60);

/// Remembers when a message was last logged, and how often it was not since.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl LogThrottle {
    /// A message that was not logged yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Said { last: None, unsaid: 0 }))
    }

    /// Whether the message may be logged now; if so, it counts as logged.
    pub fn is_due(&self) -> bool {
        self.due().is_some()
    }

    /// The same, with how often it was not logged since the last time.
    pub fn due(&self) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }

    /// Begins anew: the next message is logged. Answers how often it was not since the last time.
    pub fn reset(&self) -> u64 {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).unsaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once() {
        let seldom = LogThrottle::new();
        assert!(seldom.is_due());
        assert!(!seldom.is_due());
        assert_eq!(seldom.due(), None);
        assert_eq!(seldom.reset(), 2, "what was not said is counted");
        assert_eq!(seldom.due(), Some(0));
    }
}
