//! Waiting for an answer within a deadline: a missed one is noted here, so that no caller has to remember it.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// Something that answers, and is told when an answer is overdue.
pub trait Overdue {
    /// A deadline has passed without an answer to what was asked at `begun`.
    fn note_missed(&self, begun: Instant);
}

/// Waits for `asking` for at most `deadline`. `None`: it missed the deadline, and `about` was told. Cancel-safe if
/// `asking` is: one that is dropped notes nothing.
pub fn within<A: Overdue + ?Sized, T>(
    deadline: Duration,
    about: &A,
    asking: impl Future<Output = T>,
) -> impl Future<Output = Option<T>> {
    within_since(Instant::now(), deadline, about, asking)
}

/// The same for a question that was begun earlier: an answer to somebody else since then speaks for `about`.
pub async fn within_since<A: Overdue + ?Sized, T>(
    begun: Instant,
    deadline: Duration,
    about: &A,
    asking: impl Future<Output = T>,
) -> Option<T> {
    // Boxed: a question to the network is large, and would be kept twice.
    let answered = timeout(deadline, Box::pin(asking)).await.ok();
    if answered.is_none() {
        about.note_missed(begun);
    }
    answered
}

/// Waits for `asking` however long it takes; `about` is told when `deadline` passes. Cancel-safe if `asking` is.
pub async fn watched<A: Overdue + ?Sized, T>(deadline: Duration, about: &A, asking: impl Future<Output = T>) -> T {
    let mut asking = Box::pin(asking);
    match within(deadline, about, asking.as_mut()).await {
        Some(answered) => answered,
        None => asking.await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Noted(Mutex<Vec<Instant>>);

    impl Overdue for Noted {
        fn note_missed(&self, begun: Instant) {
            self.0.lock().unwrap().push(begun);
        }
    }

    impl Noted {
        fn all(&self) -> Vec<Instant> {
            self.0.lock().unwrap().clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_missed_deadline_is_noted_once_with_the_time_of_the_question() {
        let (noted, begun) = (Noted::default(), Instant::now());
        assert_eq!(within(2 * SECOND, &noted, async { 7 }).await, Some(7));
        assert_eq!(within(2 * SECOND, &noted, sleep(SECOND)).await, Some(()));
        assert!(noted.all().is_empty());
        assert_eq!(within(2 * SECOND, &noted, sleep(3 * SECOND)).await, None);
        assert_eq!(within_since(begun, SECOND, &noted, sleep(3 * SECOND)).await, None);
        assert_eq!(noted.all(), [begun + SECOND, begun]);
        assert_eq!(begun.elapsed(), 4 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_answer_comes_after_its_deadline_too_and_one_that_is_dropped_notes_nothing() {
        let (noted, begun) = (Noted::default(), Instant::now());
        watched(2 * SECOND, &noted, sleep(SECOND)).await;
        assert!(noted.all().is_empty());
        watched(2 * SECOND, &noted, sleep(3 * SECOND)).await;
        assert_eq!((noted.all(), begun.elapsed()), (vec![begun + SECOND], 4 * SECOND));
        let left = timeout(SECOND, within(2 * SECOND, &noted, sleep(3 * SECOND))).await;
        assert!(left.is_err());
        sleep(5 * SECOND).await;
        assert_eq!(noted.all().len(), 1);
    }
}
