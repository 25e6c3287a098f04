//! Requests inside an intercepted connection: what is judged is what is sent, to the last byte.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::HOST;
use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;

use super::sent::Sent;
use super::stage::{CLIENT, FROM, REGISTRY, authority, on_stage};
use crate::fuzzing::naive;
use crate::oci::Route;
use crate::proxy::clients::clearance;
use crate::proxy::clients::{Client, Judgement};
use crate::proxy::door::http::PendingAnswer;
use crate::proxy::forward;
use crate::proxy::registry::registry::Registry;
use crate::proxy::state::Proxy;
use crate::proxy::v2::dispatch;
use crate::wire::{self, Body, Received};

/// A client that says no more is waited for so long, in the stage's time.
const PATIENCE: Duration = Duration::from_secs(600);

/// What of a request goes upstream.
type Journal = Arc<Mutex<Vec<Vec<u8>>>>;

/// Nothing that goes upstream is of `internal/`, which a rule denies, however a server reads it; each request that
/// does is one request to a strict server.
pub fn inside(data: &[u8]) {
    let journal = Journal::default();
    on_stage(|stage| {
        let (registry, noted) = (stage.registry.clone(), journal.clone());
        stage.talk(data, |proxy, stream| async move {
            let Ok(Some((spoken, stream))) = proxy.sniff(stream).await else { return };
            let answering = proxy.clone();
            let handle = move |asked, _| -> PendingAnswer {
                Box::pin(answer(answering.clone(), registry.clone(), noted.clone(), asked))
            };
            let client = proxy.limiter.of(CLIENT);
            let _ = proxy.serve_http(spoken, stream, client, handle).await; // how it ended is for the log
        })
    });
    for bytes in journal.lock().unwrap().iter() {
        check(bytes);
    }
}

/// As `dispatch::answer` has it, up to the connection upstream.
async fn answer(
    proxy: Arc<Proxy>,
    registry: Arc<Registry>,
    journal: Journal,
    mut request: Request<Received>,
) -> Response<Body> {
    let (policy, to) = (proxy.policy(), authority());
    let refused = |status| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response
    };
    if dispatch::malformed(&mut request).await.is_some() || !dispatch::names(&request, &to) {
        return refused(StatusCode::BAD_REQUEST);
    }
    let who = Client { from: FROM, user: None };
    let Ok(wanted) = clearance::of(&registry, &who, &to, &request, &policy.clients) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    if let Judgement::Denied(_) = wanted.judge(&policy.clients.rules) {
        return refused(StatusCode::FORBIDDEN);
    }
    let Some(target) = wanted.target() else { return refused(StatusCode::BAD_REQUEST) };
    assert_eq!(Route::parse(target.path()).as_ref(), Ok(wanted.route()));
    *request.uri_mut() = target.into();
    wire::without_overrides(request.headers_mut());
    let (mut parts, body) = request.into_parts();
    forward::prepare(&mut parts, &proxy.pseudonym);
    parts.headers.remove(HOST);
    let body = if body.is_end_stream() { Body::empty() } else { Body::wrap(body) };
    let mut request = Request::from_parts(parts, body);
    wire::frame(&mut request);
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(HOST, REGISTRY.parse().unwrap());
    let bytes = send(request).await;
    journal.lock().unwrap().push(bytes);
    refused(StatusCode::OK)
}

/// The bytes of a request, as far as its client brings them.
async fn send(request: Request<Body>) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut bytes = Vec::new();
    let exchange = async { tokio::join!(sender.send_request(request), far.read_to_end(&mut bytes)) };
    let _ = tokio::time::timeout(PATIENCE, exchange).await; // nobody answers
    connection.abort();
    bytes
}

fn check(bytes: &[u8]) {
    let Some(Sent { method, path, query, body }) = Sent::read(bytes) else { return };
    assert!(body.is_empty() || !["GET", "HEAD"].contains(&method.as_str()), "a read brings a body");
    for reading in naive::readings(path.as_bytes()) {
        assert!(!reading.starts_with(b"/v2/internal/"), "{method} {path} is of internal/ to some server");
    }
    if naive::is_v2(path.as_bytes()) {
        for (name, value) in naive::form(&query) {
            let is_source = name.eq_ignore_ascii_case("from") && value.starts_with("internal/");
            assert!(
                !is_source || ["GET", "HEAD"].contains(&method.as_str()),
                "{method} {path}?{query} mounts from internal/"
            );
        }
    }
}
