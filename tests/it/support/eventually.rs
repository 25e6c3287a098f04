//! Waiting for what happens on another task or thread, with a bound.

use std::time::{Duration, Instant};

/// Waits until `condition` holds; fails the test, saying `what`, if it does not within ten seconds.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(10), "{caller}: not within 10 s: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
