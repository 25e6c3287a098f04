//! The registry behind all caches: as fast as it can be, or so many bytes a second on each connection; counts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pullthrough::wire::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::certificates::Certificates;
use super::content::{Blob, Content};
use super::pace::Pace;

/// What a connection carries in bytes a second, by the first part of the repository's name; others are not bound.
const PACES: [(&str, u64); 3] = [("/v2/slow/", 20_000_000), (FAR, 20_000_000), ("/v2/gigabit/", 125_000_000)];
/// These are so far away that an answer takes as long to begin.
const FAR: &str = "/v2/far/";
const DISTANCE: Duration = Duration::from_millis(30);

/// The running registry.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) content: Arc<Content>,
    shared: Arc<Shared>,
}

struct Shared {
    content: Arc<Content>,
    sent: Mutex<HashMap<String, Arc<AtomicU64>>>,
}

impl Origin {
    /// Listens on loopback and serves until the runtime ends.
    pub(crate) async fn start(certificates: &Certificates) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(certificates.origin()?);
        let content = Content::new();
        let shared = Arc::new(Shared { content: content.clone(), sent: Mutex::default() });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move { serve(shared, acceptor, stream).await });
            }
        });
        Ok(Self { address, content, shared })
    }

    /// How often a blob was downloaded, by bytes: 1.0 is once, whole.
    pub(crate) fn downloads(&self, blob: &Blob) -> f64 {
        self.shared.counter(&blob.digest.to_string()).load(Ordering::Relaxed) as f64 / blob.length as f64
    }
}

impl Shared {
    fn counter(&self, digest: &str) -> Arc<AtomicU64> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).entry(digest.to_owned()).or_default().clone()
    }
}

/// A client that leaves, or does not trust the lab, ends its own connection and nothing else.
async fn serve(shared: Arc<Shared>, acceptor: TlsAcceptor, stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let paces = PACES.map(|(prefix, rate)| (prefix, Arc::new(Pace::new(rate))));
    let service = service_fn(move |request: Request<Incoming>| {
        let pace = paces.iter().find(|(prefix, _)| request.uri().path().starts_with(prefix));
        let answer = answer(&shared, pace.map(|(_, pace)| pace), &request);
        let is_far = request.uri().path().starts_with(FAR);
        async move {
            if is_far {
                tokio::time::sleep(DISTANCE).await;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(256 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(shared: &Arc<Shared>, pace: Option<&Arc<Pace>>, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if matches!(path, "/v2/" | "/v2") {
        return Response::new(Body::full("{}"));
    }
    let parts: Vec<&str> = path.rsplitn(3, '/').collect();
    let [reference, noun, _] = parts[..] else { return missing() };
    let head = *request.method() == Method::HEAD;
    match noun {
        "manifests" => match shared.content.find_manifest(reference) {
            Some(manifest) => {
                let length = manifest.bytes.len() as u64;
                let body = if head { Body::empty() } else { Body::full(manifest.bytes.clone()) };
                described(Response::new(body), manifest.media_type, &manifest.digest.to_string(), length)
            }
            None => missing(),
        },
        "blobs" => {
            let Some(blob) = reference.parse().ok().and_then(|digest| shared.content.find_blob(&digest)) else {
                return missing();
            };
            let range = request.headers().get(RANGE).and_then(|value| value.to_str().ok());
            content(shared, blob, range, head, pace.cloned())
        }
        _ => missing(),
    }
}

fn content(
    shared: &Arc<Shared>,
    blob: Blob,
    range: Option<&str>,
    head: bool,
    pace: Option<Arc<Pace>>,
) -> Response<Body> {
    let span = range.and_then(|range| asked(range, blob.length));
    let (from, to) = span.unwrap_or((0, blob.length));
    let digest = blob.digest.to_string();
    let body = if head { Body::empty() } else { stream_of(shared, blob, from, to, pace) };
    let mut response = described(Response::new(body), "application/octet-stream", &digest, to - from);
    if span.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        if let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{}", to - 1, blob.length)) {
            response.headers_mut().insert(CONTENT_RANGE, value);
        }
    }
    response
}

fn stream_of(shared: &Arc<Shared>, blob: Blob, from: u64, to: u64, pace: Option<Arc<Pace>>) -> Body {
    let (counter, content) = (shared.counter(&blob.digest.to_string()), shared.content.clone());
    Body::wrap(StreamBody::new(Box::pin(stream::unfold(from, move |at| {
        let (counter, content, pace) = (counter.clone(), content.clone(), pace.clone());
        async move {
            if at >= to {
                return None;
            }
            let mut piece = content.read(&blob, at, to);
            if let Some(pace) = pace {
                piece.truncate(64 << 10);
                pace.take(piece.len() as u64).await;
            }
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
            let next = at + piece.len() as u64;
            Some((Ok::<Frame<Bytes>, Infallible>(Frame::data(piece)), next))
        }
    }))))
}

/// `bytes=a-b` and `bytes=a-`; anything else is answered with the whole.
fn asked(range: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from = first.parse().ok()?;
    let to = if last.is_empty() { length } else { last.parse::<u64>().ok()?.saturating_add(1).min(length) };
    (from < to).then_some((from, to))
}

fn described(mut response: Response<Body>, media_type: &'static str, digest: &str, length: u64) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    if let (Ok(digest), Ok(tag)) = (HeaderValue::from_str(digest), HeaderValue::from_str(&format!("\"{digest}\""))) {
        headers.insert("docker-content-digest", digest);
        headers.insert(ETAG, tag);
    }
    response
}

fn missing() -> Response<Body> {
    let mut response = Response::new(Body::full(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
