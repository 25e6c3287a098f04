//! The one who asks while a registry is away, ever more seldom, until it is back.

use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request};
use tracing::{info, warn};

use super::outage::{Failed, Part, Probe};
use super::{Endpoint, Error, Upstream};
use crate::wire::Body;

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(5);
const NAME: HeaderValue = HeaderValue::from_static(concat!("pullthrough/", env!("CARGO_PKG_VERSION")));

/// Asks until the state is closed or forgotten. `upstream` is the plain way, which no outage bars.
pub(super) async fn run(upstream: Upstream, probe: Probe) {
    let (homes, _) = probe.parts();
    let registry = homes.first().map(Endpoint::name).unwrap_or_default();
    warn!(registry, "the registry is away: what is cached is served, and it is asked now and then whether it is back");
    while let Some(pause) = probe.pause() {
        tokio::time::sleep(pause).await;
        let (homes, parts) = probe.parts();
        let mut answered = Vec::new();
        for home in homes {
            if answers(&upstream, &home, Method::GET, "/v2/").await.is_ok() {
                answered.push(home);
            }
        }
        let mut failed = Vec::new();
        for part in parts {
            if let Err(how) = is_back(&upstream, &part).await {
                failed.push((part, how));
            }
        }
        if let Some(away) = probe.done(&answered, failed) {
            info!(registry, seconds = away.as_secs(), "the registry is back");
            return;
        }
    }
}

async fn is_back(upstream: &Upstream, part: &Part) -> Result<(), Failed> {
    match part {
        Part::Home(_) => Ok(()), // asked already
        // Without credentials: that it answers is enough.
        Part::Realm(endpoint, target, _) => answers(upstream, endpoint, Method::GET, target.as_str()).await,
        Part::Elsewhere(host, _) => answers(upstream, &Endpoint::of_host(host), Method::HEAD, "/").await,
    }
}

/// Whether it says anything but that it cannot.
async fn answers(upstream: &Upstream, endpoint: &Endpoint, method: Method, target: &str) -> Result<(), Failed> {
    let request = Request::builder().method(method).uri(target).header(USER_AGENT, NAME).body(Body::empty());
    let Ok(request) = request else { return Ok(()) }; // what cannot be asked bars nobody
    match tokio::time::timeout(WAIT, upstream.knock(endpoint, request)).await {
        Ok(Ok(response)) if response.status().is_server_error() && response.status().as_u16() != 501 => {
            Err(Failed::Error)
        }
        // What is forbidden, here or by a parent, never will be asked.
        Ok(Ok(_) | Err(Error::Forbidden(_))) => Ok(()),
        Ok(Err(Error::Parent { source, .. })) if source.is_final() => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Failed::Silence),
    }
}
