//! Serves connections to the admin port.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use http::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, VARY};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use crate::host;
use crate::oci::{self, Host};
use crate::telemetry::{Exposition, Metrics};
use crate::wire::{self, Body};

const HEAD: Duration = Duration::from_secs(30);

/// Serves one connection in its own task. `public` answers the pages of the proxy that are for everybody, by their
/// paths: the CA's certificate and health.
pub fn serve<S, P, A>(stream: S, metrics: Metrics, public: P)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Fn(String) -> A + Send + Sync + 'static,
    A: Future<Output = Option<Response<Body>>> + Send,
{
    tokio::spawn(async move {
        let _open = metrics.connection("admin");
        let service = service_fn(|request: Request<Incoming>| {
            let page = is_read(request.method()).then(|| public(request.uri().path().to_owned()));
            let metrics = &metrics;
            async move {
                let page = match page {
                    Some(page) if wire::malformed(&request).is_none() => page.await,
                    _ => None,
                };
                Ok::<_, Infallible>(page.unwrap_or_else(|| answer(&request, metrics)))
            }
        });
        let mut builder = http1::Builder::new();
        let connection =
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD).serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            debug!(%error, "admin connection ended");
        }
    });
}

fn answer<B>(request: &Request<B>, metrics: &Metrics) -> Response<Body> {
    if let Some(flaw) = wire::malformed(request) {
        let mut response = text(flaw.status(), format!("{flaw}\n"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    // If the target is a URL, its host replaces Host (RFC 9112, 3.2.2).
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(Authority::as_str).or(host);
    if !host.is_some_and(is_ours) {
        let words = "the admin port answers only to IP addresses, localhost and this machine's own name\n";
        return text(StatusCode::MISDIRECTED_REQUEST, words);
    }
    if !is_read(request.method()) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "the admin port is read-only\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let exposition = Exposition::accepted(accepted);
            let mut response = text(StatusCode::OK, metrics.encode(exposition));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(exposition.content_type()));
            headers.insert(VARY, HeaderValue::from_static("Accept"));
            response
        }
        "/" => text(StatusCode::OK, "pullthrough: metrics are at /metrics\n"),
        _ => text(StatusCode::NOT_FOUND, "no such page; see /metrics\n"),
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether the host is an address, localhost, the machine's name, or a name without a dot, as Prometheus in a compose
/// network or a cluster uses: foreign DNS cannot make any of them resolve to this machine.
fn is_ours(host: &str) -> bool {
    let Ok(authority) = oci::Authority::parse(host, 80) else { return false };
    match authority.host {
        Host::Address(_) => true,
        Host::Name(name) => {
            !name.contains('.')
                || name.ends_with(".svc")
                || name.ends_with(".cluster.local")
                || host::hostname().as_deref() == Some(&*name)
        }
    }
}

fn text(status: StatusCode, words: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::full(words.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, host: &str, path: &str) -> u16 {
        let request = Request::builder().method(method).uri(path).header(HOST, host).body(()).unwrap();
        answer(&request, &Metrics::new()).status().as_u16()
    }

    #[test]
    fn only_hosts_that_cannot_be_rebound_are_answered() {
        for host in ["127.0.0.1:9128", "[::1]:9128", "localhost:9128", "pullthrough:9128", "p.ns.svc.cluster.local"] {
            assert_eq!(status(Method::GET, host, "/metrics"), 200, "{host}");
        }
        for host in ["evil.example", "evil.example:9128", ""] {
            assert_eq!(status(Method::GET, host, "/metrics"), 421, "{host}");
        }
        assert_eq!(status(Method::GET, "a b", "/metrics"), 400);
        assert_eq!(status(Method::GET, "localhost", "http://evil.example/metrics"), 421);
    }

    #[test]
    fn a_scraper_gets_the_format_that_it_asks_for() {
        for (accept, expected) in [
            (None, "text/plain; version=0.0.4; charset=utf-8"),
            (Some("text/plain;version=0.0.4"), "text/plain; version=0.0.4; charset=utf-8"),
            (Some("application/openmetrics-text"), "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ] {
            let request = Request::builder().uri("/metrics").header(HOST, "localhost");
            let request = accept.into_iter().fold(request, |request, accept| request.header(ACCEPT, accept));
            let answer = answer(&request.body(()).unwrap(), &Metrics::new());
            assert_eq!(answer.headers()[CONTENT_TYPE], expected, "{accept:?}");
        }
    }

    #[test]
    fn nothing_can_be_changed() {
        assert_eq!(status(Method::POST, "localhost", "/metrics"), 405);
        assert_eq!(status(Method::GET, "localhost", "/nothing"), 404);
    }
}
