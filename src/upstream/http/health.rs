//! The health of endpoints: one that failed lately is asked last, and only within a short deadline.
//!
//! A failure is forgotten after a while, longer after each failure, so that an endpoint nobody asks is asked again.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::evidence::Evidence;
use crate::host::Backoff;
use crate::upstream::Endpoint;

const FIRST: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff::new(FIRST, Duration::from_secs(120));

/// So many failing endpoints are remembered at most: clients choose hosts, too.
const LIMIT: usize = 1024;

/// The endpoints that are failing.
#[derive(Debug, Default)]
pub(crate) struct EndpointHealth {
    failing: Mutex<HashMap<Endpoint, Failing>>,
    /// Those of which somebody finds out when they are up again.
    watched: Mutex<HashSet<Endpoint>>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    until: Instant,
    backoff: Backoff,
    /// It could not be reached, or was silent; until it is known to be up again.
    is_down: bool,
}

impl EndpointHealth {
    pub(crate) fn note(&self, endpoint: &Endpoint, evidence: Evidence) {
        match evidence {
            Evidence::Broken | Evidence::Garbled | Evidence::Nothing => {}
            Evidence::Well => {
                self.failing().remove(endpoint);
            }
            Evidence::Error | Evidence::Odd => self.note_failing(endpoint, false),
            Evidence::Down => self.note_failing(endpoint, true),
        }
    }

    pub(crate) fn is_well(&self, endpoint: &Endpoint) -> bool {
        self.failing().get(endpoint).is_none_or(|failing| failing.until <= Instant::now())
    }

    /// Whether it was down when somebody last found out.
    pub(crate) fn is_down(&self, endpoint: &Endpoint) -> bool {
        self.failing().get(endpoint).is_some_and(|failing| failing.is_down)
    }

    /// Whether it is down and nobody watches it yet. The caller does from then on.
    pub(crate) fn take_watch(&self, endpoint: &Endpoint) -> bool {
        self.is_down(endpoint) && self.watched().insert(endpoint.clone())
    }

    /// Nobody watches it any more.
    pub(crate) fn end_watch(&self, endpoint: &Endpoint) {
        self.watched().remove(endpoint);
    }

    /// A probe has reached it: that does not say that it answers what matters, so it rests on.
    pub(crate) fn set_up(&self, endpoint: &Endpoint) {
        if let Some(failing) = self.failing().get_mut(endpoint) {
            failing.is_down = false;
        }
    }

    /// Failures of requests that were under way together are one failure.
    fn note_failing(&self, endpoint: &Endpoint, is_down: bool) {
        let now = Instant::now();
        let mut all = self.failing();
        let (backoff, is_down) = match all.get_mut(endpoint) {
            Some(failing) => {
                failing.is_down |= is_down;
                if failing.until > now {
                    return;
                }
                (failing.backoff.grown(), failing.is_down)
            }
            None => (BACKOFF, is_down),
        };
        if all.len() >= LIMIT {
            all.retain(|_, failing| failing.until > now);
        }
        if all.len() < LIMIT || all.contains_key(endpoint) {
            all.insert(endpoint.clone(), Failing { until: now + backoff.pause(), backoff, is_down });
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashSet<Endpoint>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<Endpoint, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Authority;

    #[tokio::test(start_paused = true)]
    async fn a_failure_passes_and_returns_for_longer() {
        let endpoint = Endpoint::of_host(&Authority::parse("quay.io", 443).unwrap());
        let health = EndpointHealth::default();
        assert!(health.is_well(&endpoint));
        for seconds in [10, 20, 40, 80, 120, 120] {
            health.note(&endpoint, Evidence::Down);
            health.note(&endpoint, Evidence::Down);
            tokio::time::advance(Duration::from_secs(seconds - 1)).await;
            assert!(!health.is_well(&endpoint), "{seconds}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(health.is_well(&endpoint), "{seconds}");
        }
        health.note(&endpoint, Evidence::Down);
        health.note(&endpoint, Evidence::Nothing);
        assert!(!health.is_well(&endpoint));
        health.note(&endpoint, Evidence::Well);
        assert!(health.is_well(&endpoint));
    }

    #[tokio::test(start_paused = true)]
    async fn no_number_of_ill_hosts_fills_the_memory() {
        let health = EndpointHealth::default();
        let host = |number: usize| Endpoint::of_host(&Authority::parse(&format!("h{number}.test"), 443).unwrap());
        for number in 0..3 * LIMIT {
            health.note(&host(number), Evidence::Down);
        }
        assert_eq!(health.failing().len(), LIMIT);
        tokio::time::advance(FIRST).await;
        health.note(&host(0), Evidence::Down);
        health.note(&host(3 * LIMIT), Evidence::Down);
        assert!(!health.is_well(&host(3 * LIMIT)));
        assert!(health.failing().len() < LIMIT);
    }
}
