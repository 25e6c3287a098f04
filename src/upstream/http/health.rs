//! The health of endpoints: one that failed lately is asked last, and only within a short deadline.
//!
//! Illness is forgotten after a while, longer after each failure, so that an endpoint nobody asks is asked again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::evidence::Evidence;
use crate::host::Backoff;
use crate::upstream::Endpoint;

const FIRST: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff::new(FIRST, Duration::from_secs(120));

/// So many ill endpoints are remembered at most: clients choose hosts, too.
const LIMIT: usize = 1024;

/// The endpoints that are ill.
#[derive(Debug, Default)]
pub(crate) struct EndpointHealth {
    ill: Mutex<HashMap<Endpoint, Illness>>,
}

#[derive(Clone, Copy, Debug)]
struct Illness {
    until: Instant,
    backoff: Backoff,
}

impl EndpointHealth {
    pub(crate) fn note(&self, endpoint: &Endpoint, evidence: Evidence) {
        match evidence {
            Evidence::Broken | Evidence::Nothing => {}
            Evidence::Well => {
                self.ill().remove(endpoint);
            }
            Evidence::Error | Evidence::Odd | Evidence::Down => self.note_ill(endpoint),
        }
    }

    pub(crate) fn is_well(&self, endpoint: &Endpoint) -> bool {
        self.ill().get(endpoint).is_none_or(|illness| illness.until <= Instant::now())
    }

    /// Failures of requests that were under way together are one failure.
    fn note_ill(&self, endpoint: &Endpoint) {
        let now = Instant::now();
        let mut ill = self.ill();
        let backoff = match ill.get(endpoint) {
            Some(illness) if illness.until > now => return,
            Some(illness) => illness.backoff.grown(),
            None => BACKOFF,
        };
        if ill.len() >= LIMIT {
            ill.retain(|_, illness| illness.until > now);
        }
        if ill.len() < LIMIT || ill.contains_key(endpoint) {
            ill.insert(endpoint.clone(), Illness { until: now + backoff.pause(), backoff });
        }
    }

    fn ill(&self) -> MutexGuard<'_, HashMap<Endpoint, Illness>> {
        self.ill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Authority;

    #[tokio::test(start_paused = true)]
    async fn illness_passes_and_returns_for_longer() {
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
        assert_eq!(health.ill().len(), LIMIT);
        tokio::time::advance(FIRST).await;
        health.note(&host(0), Evidence::Down);
        health.note(&host(3 * LIMIT), Evidence::Down);
        assert!(!health.is_well(&host(3 * LIMIT)));
        assert!(health.ill().len() < LIMIT);
    }
}
