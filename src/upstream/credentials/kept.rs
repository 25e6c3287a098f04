//! Keeps a value that blocking work has made, and makes it once for all callers that need it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::CredentialError;
use crate::host::{Coalesced, Flights, TaskGroup};

/// A failure is believed for so long, so that a broken source is not asked for every request.
const FAILURE: Duration = Duration::from_secs(5);
/// Where an older value is there, it goes on for so long before the source is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// A value that was refused is not got anew more often than this.
const PACE: Duration = Duration::from_secs(10);

/// One such value.
pub(crate) struct Kept<T: Clone> {
    state: Arc<Mutex<State<T>>>,
    flights: Flights<(), Result<T, CredentialError>>,
}

struct State<T> {
    value: Option<T>,
    failure: Option<CredentialError>,
    got: Option<Instant>,
    until: Option<Instant>,
}

impl<T: Clone + Send + Sync + 'static> Kept<T> {
    /// What it makes is among these tasks.
    pub(crate) fn new(tasks: &TaskGroup) -> Self {
        let state = State { value: None, failure: None, got: None, until: None };
        Self { state: Arc::new(Mutex::new(state)), flights: Flights::among(tasks.clone()) }
    }

    /// The kept value, or what `make` makes on a blocking thread; that is then kept for `life`. Where `make`
    /// fails, an older value goes on. Cancel-safe.
    pub(crate) async fn value<F>(&self, life: Duration, make: F) -> Result<T, CredentialError>
    where
        F: FnOnce() -> Result<T, CredentialError> + Send + 'static,
    {
        if let Some(known) = lock(&self.state).known() {
            return known;
        }
        let state = self.state.clone();
        let flight = self.flights.run((), None, move || async move {
            let made = tokio::task::spawn_blocking(make).await.unwrap_or(Err(CredentialError::Stopping));
            lock(&state).take_in(made, life)
        });
        flight.await.map_or(Err(CredentialError::Stopping), Coalesced::into_inner)
    }

    /// The value was refused where it was used: it is got anew the next time.
    pub(crate) fn refused(&self) {
        let mut state = lock(&self.state);
        if state.got.is_some_and(|got| got.elapsed() >= PACE) {
            state.until = None;
        }
    }
}

impl<T: Clone> State<T> {
    fn known(&self) -> Option<Result<T, CredentialError>> {
        self.until.filter(|until| *until > Instant::now())?;
        match (&self.value, &self.failure) {
            (Some(value), _) => Some(Ok(value.clone())),
            (None, Some(failure)) => Some(Err(failure.clone())),
            (None, None) => None,
        }
    }

    fn take_in(&mut self, made: Result<T, CredentialError>, life: Duration) -> Result<T, CredentialError> {
        let now = Instant::now();
        self.got = Some(now);
        match (made, &self.value) {
            (Ok(value), _) => {
                self.until = Some(now + life);
                self.value = Some(value.clone());
                self.failure = None;
                Ok(value)
            }
            (Err(error), Some(older)) => {
                self.until = Some(now + RETRY);
                warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the held credentials again; the earlier ones are used"
                );
                Ok(older.clone())
            }
            (Err(error), None) => {
                self.until = Some(now + FAILURE);
                self.failure = Some(error.clone());
                Err(error)
            }
        }
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LIFE: Duration = Duration::from_secs(100);

    #[tokio::test(start_paused = true)]
    async fn a_value_is_got_once_for_its_life_and_sooner_if_it_was_refused() {
        let kept = Kept::new(&TaskGroup::new());
        let made = Arc::new(AtomicUsize::new(0));
        let value = || {
            let made = made.clone();
            kept.value(LIFE, move || Ok(made.fetch_add(1, Ordering::SeqCst)))
        };
        assert_eq!(futures_util::join!(value(), value()).1.unwrap(), 0);
        assert_eq!(value().await.unwrap(), 0);
        kept.refused();
        assert_eq!(value().await.unwrap(), 0, "it is too young to be asked for again");
        tokio::time::advance(PACE).await;
        kept.refused();
        assert_eq!(value().await.unwrap(), 1);
        tokio::time::advance(LIFE).await;
        assert_eq!(value().await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_leaves_the_older_value_in_force() {
        let kept = Kept::new(&TaskGroup::new());
        let fail = || Err(CredentialError::Entry);
        assert!(kept.value(LIFE, fail).await.is_err());
        assert!(kept.value(LIFE, || Ok(7)).await.is_err(), "a failure is believed for a moment");
        tokio::time::advance(FAILURE).await;
        assert_eq!(kept.value(LIFE, || Ok(7)).await.unwrap(), 7);
        tokio::time::advance(LIFE).await;
        assert_eq!(kept.value(LIFE, fail).await.unwrap(), 7);
        assert_eq!(kept.value(LIFE, || Ok(8)).await.unwrap(), 7);
        tokio::time::advance(RETRY).await;
        assert_eq!(kept.value(LIFE, || Ok(8)).await.unwrap(), 8);
    }
}
