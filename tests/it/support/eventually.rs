//! Waiting for what happens on another task, thread or process, with a bound: the one place where a test looks again.
//! The bounds are long enough for a machine that does ten other things; a condition that holds costs none of them.

use std::panic::Location;
use std::time::{Duration, Instant};

/// How long a condition may take to come true, where it is looked at.
const LOOKED_AT: Duration = Duration::from_secs(30);
/// And where it has to be asked for, each time.
const ASKED_FOR: Duration = Duration::from_secs(60);
/// And in a test without a runtime, which waits for disks and threads.
const BLOCKING: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; fails the test, saying `what`, if it does not in time.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    within(LOOKED_AT, what, async move || condition())
}

/// The same for a condition that has to be asked for.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    within(ASKED_FOR, what, condition)
}

#[track_caller]
fn within(patience: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let end = Instant::now() + patience;
        while !condition().await {
            assert!(Instant::now() < end, "{caller}: not within {patience:?}: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await; // not to take the processor from what it waits for
        }
    }
}

/// Asks again and again for so long, of what has to hold all the time.
pub(crate) async fn throughout(time: Duration, mut ask: impl AsyncFnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        ask().await;
    }
}

/// As [`eventually`], for a test without a runtime.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(within(BLOCKING, what, async move || condition()));
}
