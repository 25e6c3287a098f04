//! A connection that carries so many bytes a second and no more, whatever runs over it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What was lost to a busy machine is made up for within this time.
const SLACK: Duration = Duration::from_millis(50);

/// When the connection is free again.
pub(crate) struct Pace {
    free: Mutex<Instant>,
    bytes_per_second: u64,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { free: Mutex::new(Instant::now()), bytes_per_second }
    }

    /// Waits until `bytes` more may go out.
    pub(crate) async fn take(&self, bytes: u64) {
        let until = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            *free = (*free).max(Instant::now() - SLACK) + cost;
            *free
        };
        tokio::time::sleep_until(until).await;
    }
}
