//! Coalesces equal requests: callers that ask for the same key at the same time share one request.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::group::TaskGroup;

/// The requests in progress, by key. A value is an answer or a failure; all callers get the same one. Clones share it.
#[derive(Clone)]
pub struct Flights<K, V: Clone> {
    by: Arc<Mutex<HashMap<K, Flight<V>>>>,
    tasks: TaskGroup,
}

/// One request that many callers wait for.
#[derive(Clone)]
struct Flight<V: Clone> {
    begun: Instant,
    /// `None` if its task panicked or a shutdown ended it.
    answer: Shared<BoxFuture<'static, Option<V>>>,
}

/// An answer, and whose request it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coalesced<V> {
    /// This caller's own request.
    Led(V),
    /// The request of another caller that was already in progress.
    Joined(V),
}

impl<V> Coalesced<V> {
    /// The answer, from either request.
    pub fn into_inner(self) -> V {
        match self {
            Self::Led(value) | Self::Joined(value) => value,
        }
    }
}

impl<K: Eq + Hash + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// An empty map, whose requests no stop waits for.
    #[must_use]
    pub fn new() -> Self {
        Self::among(TaskGroup::new())
    }

    /// An empty map, whose requests are among these tasks and end at their stop.
    #[must_use]
    pub fn among(tasks: TaskGroup) -> Self {
        Self { by: Arc::default(), tasks }
    }

    /// Joins the request for `key`, or starts one with the future from `make`, in its own task that continues when its
    /// callers leave: cancel-safe. A request that began before `since` is not joined, since the upstream may have been
    /// unreachable meanwhile; it continues for its own waiters. `None` if the task panicked or a shutdown ended it.
    pub async fn run<F>(&self, key: K, since: Option<Instant>, make: impl FnOnce() -> F) -> Option<Coalesced<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (flight, led) = self.enter(key, since, make);
        let value = flight.answer.await?;
        Some(if led { Coalesced::Led(value) } else { Coalesced::Joined(value) })
    }

    fn enter<F>(&self, key: K, since: Option<Instant>, make: impl FnOnce() -> F) -> (Flight<V>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = by.get(&key).filter(|flight| since.is_none_or(|since| flight.begun >= since)) {
            return (under_way.clone(), false);
        }
        let (answer, answered) = oneshot::channel();
        let flight = Flight { begun: Instant::now(), answer: answered.map(Result::ok).boxed().shared() };
        by.insert(key.clone(), flight.clone());
        drop(by); // a task that a shutdown ends at once removes its entry here
        let (place, asking) = (Place { by: self.by.clone(), key, flight: flight.clone() }, make());
        self.tasks.spawn_until_stop(async move {
            let value = asking.await;
            drop(place); // before the answer is sent, so that later callers start a new request
            let _ = answer.send(value); // all callers may have left
        });
        (flight, true)
    }
}

impl<K: Eq + Hash + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Default for Flights<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V: Clone> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// A request's entry in the map, removed however its task ends, unless a later request has replaced it.
struct Place<K: Eq + Hash, V: Clone> {
    by: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
    flight: Flight<V>,
}

impl<K: Eq + Hash, V: Clone> Drop for Place<K, V> {
    fn drop(&mut self) {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if by.get(&self.key).is_some_and(|there| there.answer.ptr_eq(&self.flight.answer)) {
            by.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn many_who_ask_the_same_are_answered_by_one_asking_and_the_next_asks_anew() {
        let flights = Flights::<&str, usize>::new();
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let asked = asked.clone();
            flights.run("key", None, move || async move {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::SeqCst) + 41
            })
        };
        let answers: Vec<_> = join_all((0..10).map(|_| ask())).await.into_iter().flatten().collect();
        assert_eq!(answers.iter().filter(|answer| **answer == Coalesced::Led(41)).count(), 1);
        assert_eq!(answers.iter().filter(|answer| **answer == Coalesced::Joined(41)).count(), 9);
        assert_eq!(ask().await, Some(Coalesced::Led(42)));
        assert_eq!(flights.run("other", None, || async { 7 }).await.map(Coalesced::into_inner), Some(7));
    }

    #[tokio::test]
    async fn the_asking_goes_on_when_its_caller_leaves() {
        let flights = Flights::<u8, u8>::new();
        let (sender, mut done) = watch::channel(false);
        let caller = flights.run(1, None, move || async move {
            tokio::task::yield_now().await;
            let _ = sender.send(true);
            7
        });
        tokio::select! { biased; _ = caller => panic!("too early"), () = std::future::ready(()) => {} }
        assert!(done.wait_for(|done| *done).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_joins_what_was_begun_too_early_and_what_was_begun_goes_on() {
        let flights = Flights::<u8, u8>::new();
        let hung = flights.clone();
        let first = tokio::spawn(async move {
            let asking = || async {
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                1
            };
            hung.run(1, None, asking).await
        });
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let since = Some(Instant::now());
        let second = flights.run(1, since, || async {
            tokio::time::sleep(std::time::Duration::from_secs(90)).await;
            2
        });
        let joined = async {
            tokio::time::sleep(std::time::Duration::from_secs(80)).await; // when the first one has left
            flights.run(1, since, || async { 3 }).await
        };
        let (second, joined) = tokio::join!(second, joined);
        assert_eq!((second, joined), (Some(Coalesced::Led(2)), Some(Coalesced::Joined(2))));
        assert_eq!(first.await.unwrap(), Some(Coalesced::Led(1)));
        assert_eq!(flights.run(1, since, || async { 4 }).await, Some(Coalesced::Led(4)));
    }

    #[tokio::test]
    async fn an_asking_that_breaks_blocks_nobody_after_it() {
        let flights = Flights::<u8, u8>::new();
        assert_eq!(flights.run(1, None, || async { panic!("on purpose") }).await, None);
        assert_eq!(flights.run(1, None, || async { 7 }).await, Some(Coalesced::Led(7)));
    }

    #[tokio::test]
    async fn a_stop_ends_the_askings_and_tells_those_that_wait() {
        let tasks = TaskGroup::new();
        let flights = Flights::<u8, u8>::among(tasks.clone());
        let asked = flights.run(1, None, std::future::pending);
        let (answer, ()) = tokio::join!(asked, tasks.stop());
        assert_eq!(answer, None);
        assert_eq!(flights.run(1, None, || async { 7 }).await, None, "and those that come later");
    }
}
