//! Several who need the same at the same time are served by one asking.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, Shared};

/// What is being asked now, by key. A value is an answer or a failure; every joiner gets the same.
pub(super) struct Flights<K, V: Clone> {
    by: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

/// One asking, to be waited for by many.
#[derive(Clone)]
struct Flight<V: Clone>(Shared<BoxFuture<'static, Option<V>>>);

impl<K: Eq + Hash + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    pub(super) fn new() -> Self {
        Self { by: Arc::default() }
    }

    /// Joins the asking of `key`, or starts it with what `make` makes, in a task of its own that goes on when
    /// its callers leave: cancel-safe. `None` where that task was ended by a shutdown.
    pub(super) async fn run<F>(&self, key: K, make: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flight = {
            let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
            match by.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let flight = self.start(key.clone(), make());
                    by.insert(key, flight.clone());
                    flight
                }
            }
        };
        flight.0.await
    }

    fn start<F>(&self, key: K, asking: F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let landed = Landed { by: self.by.clone(), key };
        let task = tokio::spawn(async move {
            let value = asking.await;
            drop(landed);
            value
        });
        Flight(task.map(Result::ok).boxed().shared())
    }
}

/// Takes the flight out of the map, however its task ended.
struct Landed<K: Eq + Hash, V: Clone> {
    by: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V: Clone> Drop for Landed<K, V> {
    fn drop(&mut self) {
        self.by.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn many_are_served_by_one_asking_and_the_next_asks_anew() {
        let flights = Flights::<u8, usize>::new();
        let asked = Arc::new(AtomicUsize::new(0));
        let run = || {
            let asked = asked.clone();
            flights.run(1, move || async move {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::SeqCst)
            })
        };
        assert_eq!(join_all((0..10).map(|_| run())).await, vec![Some(0); 10]);
        assert_eq!(run().await, Some(1));
        assert_eq!(flights.run(2, || async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn an_asking_that_breaks_blocks_nobody_after_it() {
        let flights = Flights::<u8, u8>::new();
        assert_eq!(flights.run(1, || async { panic!("on purpose") }).await, None);
        assert_eq!(flights.run(1, || async { 7 }).await, Some(7));
    }
}
