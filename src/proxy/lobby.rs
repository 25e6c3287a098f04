//! Connections that are too many: whoever asks whether the proxy is well gets an answer, others are told to come back.
//!
//! Threat: clients fill the door, and the probe that asks whether the proxy lives finds it closed: the proxy is
//! restarted, and all pulls with it. Bound: so many at a time, few of them from one address, and each for a moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use tokio::net::TcpStream;

use super::connection::Proxy;
use super::limit::Refusal;
use super::own;
use crate::wire::{Body, Guarded};

/// How long one may stay.
const MOMENT: Duration = Duration::from_secs(10);

/// Serves a connection beyond the limit in a task of its own; where there are many of those, it is closed.
pub(super) fn serve(proxy: &Arc<Proxy>, stream: TcpStream, address: IpAddr, refusal: Refusal) {
    proxy.metrics.connect("crowded");
    let Some(place) = proxy.clients.wait(address) else { return };
    let proxy = proxy.clone();
    let served = async move {
        let client = place.client().clone();
        let stream = Guarded::new(stream, place);
        let handed = proxy.clone();
        let handle = move |request, _| answer(handed.clone(), address, refusal, request);
        let _ = tokio::time::timeout(MOMENT, proxy.serve_stream(stream, client, handle)).await;
    };
    tokio::spawn(served); // a drain does not wait for it
}

async fn answer(proxy: Arc<Proxy>, client: IpAddr, refusal: Refusal, request: Request<Incoming>) -> Response<Body> {
    let is_for_us = *request.method() != Method::CONNECT && request.uri().authority().is_none();
    let is_h2 = request.version() == Version::HTTP_2;
    let mut response = if is_for_us || is_h2 && *request.method() != Method::CONNECT {
        Box::pin(own::answer(&proxy, client, &request)).await
    } else {
        own::refused(&proxy, client, &request, &refusal)
    };
    if !is_h2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
