//! One request and its answer over one way, under the timeouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::header::HOST;
use http::uri::Scheme;
use http::{Extensions, Method, Request, Response, Version};
use http_body::Body as _;

use super::idle::{Counted, Progress, Watched};
use super::link::Answered;
use super::way::Way;
use super::{Error, forwarded};
use crate::oci::Authority;
use crate::wire::{self, Body};

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// To its head, since the last piece of the request's body.
    pub(super) first_byte: Duration,
    /// Between two pieces of its body.
    pub(super) idle: Duration,
}

/// How many pooled connections may turn out to be dead for one request. Of HTTP/2 there is one for all: a stream that
/// is reset on it would be reset again.
const DEAD_LIMIT: usize = 8;
const DEAD_LIMIT_SHARED: usize = 1;

/// Sends a request, whose URI is absolute, and waits for the head of the answer.
///
/// A server may close an idle connection just as a request goes out on it. Whether the request was read cannot
/// be known, so only GET and HEAD without a body are sent again, and only after a failure on such a connection.
pub(super) async fn exchange(
    way: &Way,
    to: &Authority,
    mut request: Request<Body>,
    limits: Limits,
) -> Result<Response<Body>, Error> {
    request.headers_mut().remove(HOST);
    wire::frame(&mut request);
    request = request.map(wire::data_only);
    *request.version_mut() = Version::HTTP_11; // which one is spoken is ALPN's word
    let repeatable = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
    let mut dead = 0;
    loop {
        let again = repeatable.then(|| copy(&request));
        match (attempt(way, to, request, limits).await, again) {
            (Err(Failure { dead_limit, .. }), Some(again)) if dead < dead_limit => request = again,
            (outcome, _) => return outcome.map_err(|failure| failure.error),
        }
        dead += 1;
    }
}

fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    *copy.version_mut() = request.version();
    copy
}

struct Failure {
    error: Error,
    /// How many connections like this one may turn out to be dead: none, unless it had answered before.
    dead_limit: usize,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, dead_limit: 0 }
    }
}

async fn attempt(
    way: &Way,
    to: &Authority,
    mut request: Request<Body>,
    limits: Limits,
) -> Result<Response<Body>, Failure> {
    let progress = Arc::new(Progress { moved: AtomicU64::new(0), broken: AtomicBool::new(false) });
    if !request.body().is_end_stream() {
        request = request.map(|body| Body::wrap(Counted::new(body, Arc::clone(&progress))));
    }
    if request.uri().scheme() == Some(&Scheme::HTTP)
        && let Some(forwarding) = way.roads.forwarding(to, way.given).await?
    {
        let asked = forwarded::ask(forwarding, to, request);
        let answer = awaited(asked, to, limits, &progress, |error| blamed(error, &progress).into()).await?;
        return Ok(answer.map(|body| Body::wrap(Watched::new(body, to.clone(), limits.idle))));
    }
    let asked = way.client.request(request);
    let mut answer = awaited(asked, to, limits, &progress, |error| failed(to, error, &progress)).await?;
    if let Some(answered) = answer.extensions_mut().remove::<Answered>() {
        answered.mark();
    }
    Ok(answer.map(|body| Body::wrap(Watched::new(body, to.clone(), limits.idle))))
}

/// The head of the answer, in time: since the request's body moved last.
async fn awaited<B, E>(
    asked: impl Future<Output = Result<Response<B>, E>>,
    to: &Authority,
    limits: Limits,
    progress: &Progress,
    failed: impl Fn(E) -> Failure,
) -> Result<Response<B>, Failure> {
    let mut answer = std::pin::pin!(asked);
    let mut seen = 0;
    loop {
        match tokio::time::timeout(limits.first_byte, answer.as_mut()).await {
            Ok(answer) => return answer.map_err(failed),
            Err(_) if progress.moved.load(Ordering::Relaxed) > seen => {
                seen = progress.moved.load(Ordering::Relaxed);
            }
            Err(_) => return Err(Error::FirstByteTimeout { to: to.clone(), after: limits.first_byte }.into()),
        }
    }
}

/// A request's body that failed on our side took the exchange with it.
fn blamed(error: Error, progress: &Progress) -> Error {
    match error {
        Error::Exchange { to, source } if progress.broken.load(Ordering::Relaxed) => Error::RequestBody { to, source },
        error => error,
    }
}

/// The HTTP client wraps what the connection said: our own words are taken out again.
fn failed(to: &Authority, error: hyper_util::client::legacy::Error, progress: &Progress) -> Failure {
    if let Some(own) = Error::within(&error) {
        return own.clone().into();
    }
    let (mut extras, mut dead_limit) = (Extensions::new(), DEAD_LIMIT);
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extras);
        dead_limit = if connection.is_negotiated_h2() { DEAD_LIMIT_SHARED } else { DEAD_LIMIT };
    }
    let is_idle = extras.get::<Answered>().is_some_and(Answered::is_marked);
    let error = blamed(Error::Exchange { to: to.clone(), source: Arc::new(error) }, progress);
    let may_repeat = is_idle && matches!(error, Error::Exchange { .. });
    Failure { dead_limit: if may_repeat { dead_limit } else { 0 }, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_upload_is_the_clients_fault_and_a_broken_exchange_the_hosts() {
        let to = Authority::parse("quay.io", 443).unwrap();
        for broken in [false, true] {
            let progress = Progress { moved: AtomicU64::new(1), broken: AtomicBool::new(broken) };
            let source = Arc::new(std::io::Error::other("cut"));
            let error = blamed(Error::Exchange { to: to.clone(), source }, &progress);
            assert_eq!(matches!(error, Error::RequestBody { .. }), broken);
            let late = Error::FirstByteTimeout { to: to.clone(), after: Duration::from_secs(1) };
            assert!(matches!(blamed(late, &progress), Error::FirstByteTimeout { .. }));
        }
    }
}
