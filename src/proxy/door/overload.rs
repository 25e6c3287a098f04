//! Serves connections beyond the limit: health checks get an answer, others are told to come back.
//!
//! Threat: clients use up all connections, the liveness probe is refused, and the proxy is restarted with all its
//! pulls.
//! Bound: at most so many at a time, each for a moment; a new one replaces the earliest of the address that has most.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, Version};

use super::http::PendingAnswer;
use super::lingering::Lingering;
use super::transparent::ConnectionEnds;
use super::{pages, transparent};
use crate::proxy::limit::Exceeded;
use crate::proxy::mirror;
use crate::proxy::site::{Arrival, Door};
use crate::proxy::state::Proxy;
use crate::wire::{Body, ClientSocket, Guarded, Received, Rewind};

/// How long such a connection may stay.
const MOMENT: Duration = Duration::from_secs(10);

/// Serves a connection beyond the limit, or from an address outside `clients.allow` (no `refusal`), in a task of its
/// own. Where there are many of them, an earlier one is closed.
pub(crate) fn serve(
    proxy: &Arc<Proxy>,
    stream: Rewind<ClientSocket>,
    from: Arrival,
    ends: ConnectionEnds,
    refusal: Option<Exceeded>,
) {
    let waiting = proxy.limiter.wait(from.address);
    let left = waiting.left().clone();
    let (proxy, background) = (proxy.clone(), proxy.background.clone());
    let served = async move {
        let client = proxy.limiter.of(from.address);
        let stream = Lingering::new(Guarded::new(stream, waiting), Some(proxy.lingerer(from.address)));
        if from.door == Door::Transparent {
            let served = transparent::serve(proxy, from, ends, Box::new(stream), refusal);
            let _ = left.run_until_cancelled(tokio::time::timeout(MOMENT, served)).await;
            return;
        }
        let handed = proxy.clone();
        let handle = move |request, _| -> PendingAnswer { Box::pin(answer(handed.clone(), from, refusal, request)) };
        let served = Box::pin(proxy.serve_stream(stream, (from, ends.to), client, handle));
        let _ = left.run_until_cancelled(tokio::time::timeout(MOMENT, served)).await;
    };
    background.spawn_until_stop(served); // a drain does not wait for it
}

async fn answer(
    proxy: Arc<Proxy>,
    from: Arrival,
    refusal: Option<Exceeded>,
    request: Request<Received>,
) -> Response<Body> {
    let is_h2 = request.version() == Version::HTTP_2;
    let is_for_us = *request.method() != Method::CONNECT
        && (is_h2 || request.uri().authority().is_none())
        && !mirror::answer::is_for_registry(&request);
    let is_unknown = !proxy.policy().admits(from.address);
    let mut response = match refusal {
        _ if is_for_us && (!is_unknown || pages::is_for_anybody(&request)) => {
            Box::pin(pages::answer(&proxy, from, &request)).await.response
        }
        Some(refusal) if !is_unknown => pages::refused(&proxy, from, &request, &refusal),
        _ => pages::unknown_client(&proxy, from, &request).response,
    };
    if !is_h2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
