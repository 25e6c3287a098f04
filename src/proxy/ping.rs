//! `GET /v2/`: the registry's own answer, challenge and all; its last known one when it is away.
//!
//! Podman takes its challenge from this answer alone, so it is never made up: only a 200 that the registry
//! gave to a request without credentials is remembered.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::connection::Proxy;
use super::policy::Policy;
use super::pull::{ILL_DEADLINE, Pulled};
use super::registry::Registry;
use super::{forward, respond};
use crate::oci::Authority;
use crate::store::Ping;
use crate::telemetry::{Kind, Outcome};
use crate::wire::Body;

/// Answers a ping.
pub(super) async fn answer(
    proxy: &Arc<Proxy>,
    policy: &Policy,
    registry: &Arc<Registry>,
    authority: &Authority,
    request: Request<Incoming>,
) -> Pulled {
    let origin = registry.origin(authority);
    let anonymous = !request.headers().contains_key(AUTHORIZATION);
    let head = *request.method() == http::Method::HEAD;
    let deciding = registry.deciding_endpoints(authority);
    let well = deciding.iter().any(|endpoint| policy.upstream.is_well(endpoint));
    let deadline = if well { registry.tags().deadline() } else { ILL_DEADLINE };
    let mut last = Pulled::bypass(respond::no_answer().respond());
    for endpoint in policy.upstream.order(&deciding) {
        let (parts, ()) = bodiless(&request);
        let asked =
            forward::pass(proxy, policy, registry, endpoint, Kind::Ping, Request::from_parts(parts, Body::empty()));
        match tokio::time::timeout(deadline, asked).await {
            Err(_) => policy.upstream.note_missed(endpoint),
            Ok(response)
                if response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS =>
            {
                last = Pulled::bypass(response);
            }
            Ok(response) => {
                if anonymous {
                    remember(proxy, &origin, &response);
                }
                return Pulled::bypass(response);
            }
        }
    }
    recall(proxy, &origin, head).await.unwrap_or(last)
}

fn bodiless(request: &Request<Incoming>) -> (http::request::Parts, ()) {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    // Threat: a length without its body would make the next request on that pooled connection part of it.
    copy.headers_mut().remove(CONTENT_LENGTH);
    copy.into_parts()
}

fn remember(proxy: &Proxy, origin: &Arc<str>, response: &Response<Body>) {
    let kept = |name: &HeaderName| {
        *name == respond::API_VERSION
            || name.as_str().starts_with("www-authenticate")
            || name.as_str() == "content-type"
    };
    let headers = response.headers().iter().filter(|(name, _)| kept(name));
    let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    proxy.store.catalog().note_ping(Ping {
        registry: origin.clone(),
        status: response.status().as_u16(),
        headers: headers.collect(),
        seen: SystemTime::now(),
    });
}

/// The last 200 of a registry that wants no credentials.
async fn recall(proxy: &Proxy, origin: &Arc<str>, head: bool) -> Option<Pulled> {
    let ping = proxy.store.catalog().ping(origin).await.ok().flatten().filter(|ping| ping.status == 200)?;
    let mut response = Response::new(if head { Body::empty() } else { Body::full("{}") });
    for (name, value) in &ping.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    let age = ping.seen.elapsed().unwrap_or_default();
    Some(Pulled { response, outcome: Outcome::Stale, stored: false, age: Some(age) })
}
