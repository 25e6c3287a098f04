//! Answers requests for the proxy itself: what this is, the CA to trust, setup scripts, health and readiness.

use std::time::SystemTime;

use http::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::oci::{Algorithm, Code, Digest};
use crate::proxy::clients::refused::RefusedRequest;
use crate::proxy::limit::Exceeded;
use crate::proxy::record::Record;
use crate::proxy::respond::{self, Failure, Rendered};
use crate::proxy::site::{Arrival, Door};
use crate::proxy::state::Proxy;
use crate::setup as guide;
use crate::setup::{ClientKind, OnMirror, UnknownClient};
use crate::wire::Body;

/// Marks a request that came to the proxy itself by TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByTls;

const TEXT: &str = "text/plain; charset=utf-8";
const CERTIFICATE: &str = "/ca.crt";
const ALIVE: &str = "/healthz";
const READY: &str = "/readyz";
/// The pages that hold no secret: health checks, and the certificate that clients trust.
const PUBLIC: [&str; 3] = [CERTIFICATE, ALIVE, READY];

/// Answers a request that does not name another host.
pub(crate) async fn answer<B>(proxy: &Proxy, from: Arrival, request: &Request<B>) -> Rendered {
    let mut record = Record::new(&proxy.metrics, from, request, "-", "own");
    record.path(request.uri().path());
    let head = *request.method() == Method::HEAD;
    let mut rendered = if *request.method() == Method::GET || head {
        page(proxy, from.door, request).await
    } else {
        let mut rendered = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        rendered.response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        Rendered { declined: rendered.reason.clone(), ..rendered }
    };
    if head {
        *rendered.response.body_mut() = Body::empty();
    }
    let status = rendered.response.status();
    record.verdict("own", status.as_u16());
    if status.is_success() && matches!(request.uri().path(), ALIVE | READY) {
        record.quiet();
    }
    record.attach(rendered)
}

/// Whether clients outside `clients.allow` get an answer, too: to health checks, and to requests for the
/// certificate, which is public.
pub(crate) fn is_for_anybody<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) && PUBLIC.contains(&request.uri().path())
}

impl Proxy {
    /// The page of this path that is for everybody, on whatever port it is asked for; `None` for all other paths.
    pub async fn public_page(&self, path: &str) -> Option<Response<Body>> {
        public(self, path).await.map(|page| page.response)
    }
}

async fn public(proxy: &Proxy, path: &str) -> Option<Rendered> {
    Some(match path {
        CERTIFICATE => {
            let mut response = text(StatusCode::OK, proxy.policy().ca.root_pem().to_owned());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-pem-file"));
            response.into()
        }
        ALIVE => text(StatusCode::OK, "alive\n").into(),
        READY => match unready(proxy).await {
            None => text(StatusCode::OK, "ready\n").into(),
            Some(reason) => refusal(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        _ => return None,
    })
}

async fn page<B>(proxy: &Proxy, door: Door, request: &Request<B>) -> Rendered {
    let path = request.uri().path();
    if let Some(page) = public(proxy, path).await {
        return page;
    }
    match path {
        "/" if door == Door::Mirror => text(StatusCode::OK, welcome_to_mirror(proxy, request)).into(),
        "/" => text(StatusCode::OK, welcome(proxy)).into(),
        path => match path.strip_prefix("/setup/") {
            Some(client) => {
                setup(proxy, client, door, &asked_host(request), request.extensions().get::<ByTls>().is_some())
            }
            None if door == Door::Mirror => {
                missing("this mirror has no such page: registries are below /v2/, and / says what else there is")
            }
            None => missing("this proxy has no such page: see /, or send CONNECT"),
        },
    }
}

fn missing(message: impl Into<String>) -> Rendered {
    let failure = Failure::new(StatusCode::NOT_FOUND, Code::Unsupported, "http_request_error", message);
    Rendered { declined: None, ..failure.render() }
}

/// The name by which this client reaches the proxy.
fn asked_host<B>(request: &Request<B>) -> String {
    let header = || request.headers().get(HOST).and_then(|value| value.to_str().ok());
    request.uri().authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or_default().to_owned()
}

/// The script that sets a client's machine up for the address by which it was fetched: for the mirror at the mirror's door, else
/// for the proxy.
fn setup(proxy: &Proxy, client: &str, door: Door, host: &str, is_tls: bool) -> Rendered {
    let Ok(client) = client.parse::<ClientKind>() else { return missing(UnknownClient.to_string()) };
    if door == Door::Mirror {
        return setup_mirror(proxy, client, host, is_tls);
    }
    let url = Some(format!("http://{host}")).filter(|_| !host.contains('@')).and_then(|url| url.parse().ok());
    let Some(url) = url else { return nameless() };
    match guide::script(client, &url, proxy.policy().clients.logins.is_some()) {
        Some(script) => shell(script),
        None => by_hand(client, &guide::page(client, &guide::plan(client, &url))),
    }
}

fn setup_mirror(proxy: &Proxy, client: ClientKind, host: &str, is_tls: bool) -> Rendered {
    let Ok(url) = format!("{}://{host}", if is_tls { "https" } else { "http" }).parse() else { return nameless() };
    let policy = proxy.policy();
    let registries = policy.registries.iter().map(|registry| OnMirror::Registry(registry.name().to_string()));
    let names = policy.mirror.names.written.iter().cloned().map(|(name, registry)| OnMirror::Name { name, registry });
    let known: Vec<OnMirror> = registries.chain(names).collect();
    match (guide::mirror_script(client, &url, &[], &known), guide::mirror_plan(client, &url, &[], &known)) {
        (Ok(script), _) => shell(script),
        (Err(_), Ok(plan)) => by_hand(client, &guide::page(client, &plan)),
        (Err(_), Err(refused)) => refusal(StatusCode::NOT_FOUND, format!("{client}: {refused}\n")),
    }
}

fn shell(script: String) -> Rendered {
    let mut response = text(StatusCode::OK, script);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/x-shellscript; charset=utf-8"));
    response.into()
}

fn by_hand(client: ClientKind, page: &str) -> Rendered {
    refusal(StatusCode::NOT_FOUND, format!("# no script can do this: {client}\n{page}"))
}

fn nameless() -> Rendered {
    refusal(StatusCode::BAD_REQUEST, "the request does not name a host, so the script cannot name its proxy\n")
}

fn welcome(proxy: &Proxy) -> String {
    let policy = proxy.policy();
    let registries: Vec<&str> = policy.registries.iter().map(|registry| &**registry.name()).collect();
    format!(
        "pullthrough {}: a caching proxy for container images.\n\n\
         Use it as HTTPS_PROXY for a container daemon, and let the machine trust its CA:\n\
         GET /ca.crt gives the certificate. Before trusting it, compare its fingerprint with what\n\
         `pullthrough ca show` prints on the proxy's machine (never with what came over the network).\n\n\
         GET /setup/CLIENT gives a script that sets a machine up, once it is told that fingerprint: docker,\n\
         containerd, podman, buildah, crio, buildkit, k3s, rke2, microk8s.\n\n\
         Cached registries: {}\n",
        env!("CARGO_PKG_VERSION"),
        registries.join(", ")
    )
}

fn welcome_to_mirror<B>(proxy: &Proxy, request: &Request<B>) -> String {
    let policy = proxy.policy();
    let registries: Vec<&str> = policy.registries.iter().map(|registry| &**registry.name()).collect();
    let host = match asked_host(request) {
        host if host.is_empty() => "MIRROR".to_owned(),
        host => host,
    };
    format!(
        "pullthrough {}: a mirror of registries of container images.\n\n\
         Name it as the mirror of a registry in your client's configuration, or in an image's name:\n\
         {host}/{}/NAMESPACE/NAME:TAG.\n\n\
         GET /setup/CLIENT gives a script that does so: docker, containerd, podman, buildah, crio, buildkit,\n\
         k3s, rke2, microk8s. GET /ca.crt gives the certificate of the CA that signs for the mirror unless it\n\
         has a certificate of its own. Before trusting it, compare its fingerprint with what `pullthrough ca show`\n\
         prints on the mirror's machine (never with what came over the network).\n\n\
         Cached registries: {}\n",
        env!("CARGO_PKG_VERSION"),
        registries.iter().find(|name| !name.contains('*')).unwrap_or(&"REGISTRY"),
        registries.join(", ")
    )
}

/// Why the proxy cannot serve now: the disk does not take a file, or the CA has expired.
async fn unready(proxy: &Proxy) -> Option<String> {
    if proxy.policy().ca.expiry() <= SystemTime::now() {
        return Some("the CA has expired".to_owned());
    }
    if let Some(trouble) = proxy.store.disk_fault() {
        return Some(format!("the cache's disk: {trouble}; pulls continue uncached"));
    }
    let empty = Digest::of(Algorithm::Sha256, b"");
    let probe = proxy.store.patiently("create a file in", move |store| store.probe(&empty)).await;
    probe.err().map(|error| format!("the cache cannot be written: {}", crate::telemetry::chain(&error)))
}

/// 403 for an address that is not in `clients.allow`.
pub(crate) fn unknown_client<B>(proxy: &Proxy, from: Arrival, request: &Request<B>) -> Rendered {
    let host = request.uri().host().unwrap_or("-").to_owned();
    let mut record = Record::new(&proxy.metrics, from, request, host, "stranger");
    let message = format!("{} may not use this proxy: its network is not in clients.allow", from.address);
    record.judged("stranger", 403);
    record.detail("not in clients.allow");
    let failure = Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message);
    record.attach(failure.render())
}

/// Refuses a request beyond a limit, and records it.
pub(crate) fn refused<B>(proxy: &Proxy, from: Arrival, request: &Request<B>, refusal: &Exceeded) -> Response<Body> {
    let host = request.uri().host().unwrap_or("-").to_owned();
    let mut record = Record::new(&proxy.metrics, from, request, host, "limit");
    let failure = respond::too_many(refusal);
    record.judged("crowded", failure.status.as_u16());
    let Rendered { response, declined, .. } = record.attach(failure.render());
    let clients = &proxy.policy().clients;
    if let (Some(asked), Some(reason)) = (RefusedRequest::of(clients, from.address, request), declined) {
        asked.note(clients, None, None, failure.status, &reason);
    }
    response
}

/// Refuses a request before its target is judged, and records it by a word: its user or password is missing or wrong
/// (`login`), it has been here before (`loop`), or it has a form that HTTP does not have (`malformed`).
pub(crate) fn turned_away<B>(
    proxy: &Proxy,
    from: Arrival,
    request: &Request<B>,
    word: &'static str,
    refusal: &Failure,
) -> Rendered {
    let host = request.uri().host().unwrap_or("-").to_owned();
    let mut record = Record::new(&proxy.metrics, from, request, host, "login");
    record.judged(word, refusal.status.as_u16());
    record.attach(refusal.render())
}

/// An error in words, of which the first line is the reason.
fn refusal(status: StatusCode, words: impl Into<String>) -> Rendered {
    let words = words.into();
    let reason = words.lines().next().map(|line| line.trim_start_matches("# ").to_owned());
    Rendered { reason, ..text(status, words).into() }
}

fn text(status: StatusCode, words: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::full(words.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response
}
