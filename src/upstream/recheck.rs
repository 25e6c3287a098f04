//! Probes an endpoint that is down while others of its registry answer: no outage watches it, and nobody may ask it.
//!
//! A probe is one unauthenticated `GET /v2/`. It says that the endpoint is reachable and nothing of what matters, so it
//! moves the endpoint back to its place among the others no earlier than its rest ends.

use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request};
use tokio::time::Instant;
use tracing::{info, warn};

use super::client::WeakUpstream;
use super::outage::{OutageCause, SendProbe};
use super::{Endpoint, Error, FailureReason, Outage, Upstream};
use crate::host::Backoff;
use crate::wire::Body;

const FIRST: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff::new(FIRST, Duration::from_secs(120));
/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(5);
const NAME: HeaderValue = HeaderValue::from_static(concat!("pullthrough/", env!("CARGO_PKG_VERSION")));

impl Upstream {
    /// Has an endpoint watched that is down while others may answer for it.
    pub(crate) fn watch(&self, outage: &Outage, endpoint: &Endpoint, cause: impl FnOnce() -> OutageCause) {
        if !outage.may_be_down_alone(endpoint) || !self.health().take_watch(endpoint) {
            return;
        }
        let watched = until_up(self.downgrade(), outage.name(), endpoint.clone(), cause());
        self.tasks().spawn_until_stop(watched);
    }

    /// Whether `endpoint` of the registry with this outage is up, as far as requests and probes have shown.
    #[must_use]
    pub fn is_up(&self, endpoint: &Endpoint, outage: &Outage) -> bool {
        if outage.covers(endpoint) && outage.is_home_away() {
            return false;
        }
        !outage.may_be_down_alone(endpoint) || !self.health().is_down(endpoint)
    }
}

/// Watches `endpoint` of `registry`, which is down for this cause, until it is reachable or forgotten.
async fn until_up(upstream: WeakUpstream, registry: String, endpoint: Endpoint, cause: OutageCause) {
    let begun = Instant::now();
    let mut told: FailureReason = cause.reason;
    tell(&registry, &endpoint, &cause);
    let mut backoff = BACKOFF;
    loop {
        tokio::time::sleep(backoff.pause()).await;
        let Some(upstream) = upstream.upgrade() else { return };
        if !upstream.health().is_down(&endpoint) {
            upstream.health().end_watch(&endpoint); // a request has shown it
            break;
        }
        let request = Request::builder().method(Method::GET).uri("/v2/").header(USER_AGENT, NAME).body(Body::empty());
        let Ok(request) = request else { return };
        let cause = match tokio::time::timeout(WAIT, upstream.send_probe(&endpoint, request, begun)).await {
            Ok(Ok(_) | Err(Error::Forbidden(_))) => {
                upstream.health().set_up(&endpoint);
                upstream.health().end_watch(&endpoint);
                break;
            }
            Ok(Err(error)) if error.is_ours() => continue,
            Ok(Err(error)) => OutageCause::of(&endpoint, &error),
            Err(_) => OutageCause::silence(&endpoint, WAIT),
        };
        if !cause.reason.is_like(told) {
            told = cause.reason;
            tell(&registry, &endpoint, &cause);
        }
        backoff.grow();
    }
    info!(registry, endpoint = endpoint.name(), seconds = begun.elapsed().as_secs(), "the endpoint is reachable again");
}

fn tell(registry: &str, endpoint: &Endpoint, cause: &OutageCause) {
    warn!(
        registry,
        endpoint = endpoint.name(),
        address = cause.address,
        reason = cause.reason.label(),
        error = cause.error,
        "an endpoint is unreachable; the registry's other endpoints are asked, and this one is probed periodically"
    );
}
