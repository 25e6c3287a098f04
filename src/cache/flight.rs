//! Several who ask the same at the same time are answered by one asking.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What is being asked now, by key. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Flights<K, V> {
    by: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

/// An answer, and who asked for it.
#[derive(Debug)]
pub(super) enum Landed<V> {
    /// This caller's own asking.
    Led(V),
    /// That of another, which was under way.
    Joined(V),
}

impl<V> Landed<V> {
    /// The answer, whoever asked.
    pub(super) fn into_inner(self) -> V {
        match self {
            Self::Led(value) | Self::Joined(value) => value,
        }
    }
}

impl<K: Eq + Hash + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// No flights yet.
    pub(super) fn new() -> Self {
        Self { by: Arc::default() }
    }

    /// Joins the flight of `key`, or starts it with what `make` makes. The asking goes on in a task of its
    /// own when its callers leave, so this is cancel-safe. A leader whose task was ended by a shutdown waits for
    /// ever: its own caller's deadline ends that.
    pub(super) async fn run<F>(&self, key: K, make: impl FnOnce() -> F) -> Landed<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut make = Some(make);
        loop {
            let (mut answer, led) = self.enter(&key, &mut make);
            // A sender dropped without an answer (its task was ended by a shutdown) leaves nothing to join:
            // look again. Whoever has led has nothing left to make, and waits for the next leader.
            if let Ok(value) = answer.wait_for(Option::is_some).await.map(|seen| seen.clone()) {
                if let Some(value) = value {
                    return if led { Landed::Led(value) } else { Landed::Joined(value) };
                }
            } else if make.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn enter<F>(&self, key: &K, make: &mut Option<impl FnOnce() -> F>) -> (watch::Receiver<Option<V>>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = flights.get(key).filter(|flight| flight.has_changed().is_ok()) {
            return (under_way.clone(), false);
        }
        let (sender, receiver) = watch::channel(None);
        let Some(make) = make.take() else { return (receiver, false) };
        flights.insert(key.clone(), receiver.clone());
        drop(flights);
        let (asking, by, key) = (make(), self.by.clone(), key.clone());
        tokio::spawn(async move {
            let value = asking.await;
            by.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            let _ = sender.send(Some(value)); // nobody left to hear it is fine
        });
        (receiver, true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn many_who_ask_the_same_are_answered_by_one_asking() {
        let flights = Flights::<&str, usize>::new();
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let asked = asked.clone();
            flights.run("key", move || async move {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::SeqCst) + 41
            })
        };
        let answers = join_all((0..10).map(|_| ask())).await;
        assert_eq!(answers.iter().filter(|answer| matches!(answer, Landed::Led(41))).count(), 1);
        assert_eq!(answers.iter().filter(|answer| matches!(answer, Landed::Joined(41))).count(), 9);
        assert!(matches!(ask().await, Landed::Led(42)), "the next one asks anew");
    }

    #[tokio::test]
    async fn the_asking_goes_on_when_its_caller_leaves() {
        let flights = Flights::<u8, u8>::new();
        let (sender, mut done) = watch::channel(false);
        let caller = flights.run(1, move || async move {
            tokio::task::yield_now().await;
            let _ = sender.send(true);
            7
        });
        tokio::select! { biased; _ = caller => panic!("too early"), () = std::future::ready(()) => {} }
        assert!(done.wait_for(|done| *done).await.is_ok());
    }
}
