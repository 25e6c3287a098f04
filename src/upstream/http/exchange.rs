//! Exchanges one request for its answer over one pool, within the timeouts.

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::uri::Scheme;
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, capture_connection};
use tokio::time::Instant;

use super::fit::Expectation;
use super::idle::{BodyPace, Watched};
use super::interim::Interim;
use super::pool::{BodyReader, Pool};
use super::upload::{Counted, SILENCE, UploadProgress, UploadState};
use super::{bound, forwarded};
use crate::oci::Authority;
use crate::upstream::Error;
use crate::upstream::net::connector::Life;
use crate::wire::{self, Body};

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeLimits {
    /// To its head, since the last piece of the request's body; not while the client is waited for.
    pub(crate) first_byte: Duration,
    /// Between two pieces of its body.
    pub(crate) idle: Duration,
    /// Whether its body may not trickle.
    pub(crate) brisk: bool,
    pub(crate) reader: BodyReader,
}

/// How many pooled connections may turn out to be dead for one request. Of HTTP/2 there is one for all: a stream that
/// is reset on it would be reset again.
const DEAD_LIMIT: usize = 8;
const DEAD_LIMIT_SHARED: usize = 1;
/// How many may be found to be too old: as many as a pool keeps, for as many hosts as one name has.
const OLD_LIMIT: usize = 256;
/// A connection on which an answer is waited for longer than this takes no further request: it may be dead.
const SLOW: Duration = Duration::from_secs(10);

/// Sends a request, whose URI is absolute, and waits for the head of the answer.
///
/// A server may close an idle connection just as a request goes out on it. Whether the request was read cannot
/// be known, so only GET and HEAD without a body are sent again, and only after a failure on such a connection. The
/// same where the connection is older than `since`.
pub(crate) async fn exchange(
    pool: &Pool,
    to: &Authority,
    mut request: Request<Body>,
    limits: ExchangeLimits,
    since: Option<Instant>,
) -> Result<Response<Body>, Error> {
    if let Some(scheme) = bound::carried(request.headers()) {
        return Err(Error::ConnectionBound { to: to.clone(), scheme });
    }
    request.headers_mut().remove(HOST);
    wire::frame(&mut request);
    request = request.map(wire::data_only);
    *request.version_mut() = Version::HTTP_11; // which one is spoken is ALPN's word
    let since = since.filter(|_| is_repeatable(&request));
    let (mut dead, mut old) = (0, 0);
    loop {
        let again = is_repeatable(&request).then(|| copy(&request));
        let since = since.filter(|_| old < OLD_LIMIT);
        match (attempt(pool, to, request, limits, since).await, again) {
            (Err(Failure::Dead { limit, .. }), Some(again)) if dead < limit => (request, dead) = (again, dead + 1),
            (Err(Failure::Old), Some(again)) => (request, old) = (again, old + 1),
            (outcome, _) => return outcome.map_err(|failure| failure.into_error(to)),
        }
    }
}

/// Whether to send it twice is the same as to send it once.
pub(crate) fn is_repeatable(request: &Request<Body>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream()
}

/// The same without its body, which it has not.
fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    *copy.version_mut() = request.version();
    copy
}

enum Failure {
    Error(Error),
    /// The connection broke that had answered before; how many like it may turn out to be dead.
    Dead {
        error: Error,
        limit: usize,
    },
    /// The connection is older than may be.
    Old,
}

impl Failure {
    fn into_error(self, to: &Authority) -> Error {
        match self {
            Self::Error(error) | Self::Dead { error, .. } => error,
            Self::Old => Error::Exchange { to: to.clone(), source: Arc::new(std::io::Error::other("it is too old")) },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn attempt(
    pool: &Pool,
    to: &Authority,
    mut request: Request<Body>,
    limits: ExchangeLimits,
    since: Option<Instant>,
) -> Result<Response<Body>, Failure> {
    let expected = Expectation::of(&request);
    let progress = Arc::new(UploadProgress::default());
    if !request.body().is_end_stream() {
        request = request.map(|body| Body::wrap(Counted::new(body, Arc::clone(&progress))));
    }
    let interim = Interim::of(&mut request);
    if request.uri().scheme() == Some(&Scheme::HTTP)
        && let Some(forwarding) = pool.egress.forwarding(to, pool.given).await?
    {
        let asked = forwarded::ask(forwarding, to, request);
        let failed = |error| blamed(error, &progress).into();
        let answer = awaited(asked, to, limits, &progress, &interim, failed, || {}).await?;
        return Ok(watched(judged(answer, to, expected)?, to, expected, limits, None));
    }
    let connection = capture_connection(&mut request);
    let unanswered = Unanswered(Some(connection.clone()));
    let asked = pool.client(limits.reader).request(request);
    let failed = |error| failed(to, error, &progress);
    let answer = tokio::select! {
        biased;
        answer = awaited(asked, to, limits, &progress, &interim, failed, || retire(&connection)) => answer,
        () = is_older(connection.clone(), since) => Err(Failure::Old),
    };
    let mut answer = answer?;
    unanswered.answered();
    if let Some(life) = answer.extensions_mut().remove::<Life>() {
        life.mark();
    }
    if expected.misfit(&answer).is_some() || bound::is_spoken(answer.headers()) {
        retire(&connection);
    }
    Ok(watched(judged(answer, to, expected)?, to, expected, limits, Some(connection)))
}

/// The answer with its body under watch.
///
/// Threat: over HTTP/2 a body that breaks off, or is longer than it said, leaves a connection that looks well, and on which
/// the rest would be waited for in vain. So one whose exchange did not end as it was framed is asked nothing more.
fn watched(
    answer: Response<Incoming>,
    to: &Authority,
    expected: Expectation,
    limits: ExchangeLimits,
    connection: Option<CaptureConnection>,
) -> Response<Body> {
    let pace = BodyPace { idle: limits.idle, brisk: limits.brisk, ends: expected.has_end(&answer) };
    let broken = move |error| {
        if let Some(connection) = &connection {
            retire(connection);
        }
        error
    };
    answer.map(|body| Body::wrap(Watched::new(body, to.clone(), pace).map_err(broken)))
}

/// Ends if the request went out on a connection of before `since`, which takes no further one.
async fn is_older(mut connection: CaptureConnection, since: Option<Instant>) {
    let Some(since) = since else { return std::future::pending().await };
    let born = connection.wait_for_connection_metadata().await.as_ref().and_then(Life::of).map(|life| life.born);
    if born.is_none_or(|born| born >= since) {
        return std::future::pending().await;
    }
    retire(&connection);
}

/// Takes a connection out of the pool: what is under way on it goes on.
fn retire(connection: &CaptureConnection) {
    if let Some(connection) = &*connection.connection_metadata() {
        connection.poison();
    }
}

/// An answer as it goes on, if it fits the question.
fn judged<B>(mut answer: Response<B>, to: &Authority, expected: Expectation) -> Result<Response<B>, Error> {
    if let Some(why) = expected.misfit(&answer) {
        return Err(Error::Misfit { to: to.clone(), status: answer.status(), why });
    }
    bound::leave_out(answer.headers_mut());
    Ok(answer)
}

/// A connection on which an answer is awaited. If it is waited for no longer, nothing else is asked there: over HTTP/2 it
/// stays open for others, and whoever leaves one question unanswered may do worse.
struct Unanswered(Option<CaptureConnection>);

impl Unanswered {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            retire(connection);
        }
    }
}

/// The head of the answer, in time: since the request's body moved last, and its client was waited for last. `slow` is
/// called where it takes long.
async fn awaited<B, E>(
    asked: impl Future<Output = Result<Response<B>, E>>,
    to: &Authority,
    limits: ExchangeLimits,
    progress: &UploadProgress,
    interim: &Interim,
    failed: impl Fn(E) -> Failure,
    slow: impl Fn(),
) -> Result<Response<B>, Failure> {
    let mut answer = std::pin::pin!(asked);
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        let begun = Instant::now();
        let in_time = async {
            if limits.first_byte > SLOW {
                match tokio::time::timeout(SLOW, answer.as_mut()).await {
                    Ok(answer) => return Ok(answer),
                    Err(_) => slow(),
                }
            }
            tokio::time::timeout_at(begun + limits.first_byte, answer.as_mut()).await
        };
        let in_time = tokio::select! {
            biased;
            in_time = in_time => in_time,
            flood = interim.too_many() => {
                return Err(Error::Exchange { to: to.clone(), source: Arc::new(flood) }.into());
            }
        };
        match in_time {
            Ok(answer) => return answer.map_err(failed),
            Err(_) if progress.moved() > seen => (seen, moved) = (progress.moved(), Instant::now()),
            // Its silence ends the request. Not where nobody asks for more since the upstream has withdrawn the room.
            Err(_) if progress.state() == UploadState::Client && moved.elapsed() < SILENCE + limits.first_byte => {}
            Err(_) => return Err(Error::FirstByteTimeout { to: to.clone(), after: limits.first_byte }.into()),
        }
    }
}

/// A request's body that failed on the client's side took the exchange with it. Nor is it known who is to blame where
/// the upstream went away while it was waiting for the client.
fn blamed(error: Error, progress: &UploadProgress) -> Error {
    let Error::Exchange { to, source } = error else { return error };
    match progress.state() {
        UploadState::Upstream => Error::Exchange { to, source },
        UploadState::Client => Error::Unfinished { to, source },
        UploadState::Broken => Error::RequestBody { to, source },
        UploadState::Silent => Error::RequestTimeout { to, after: SILENCE },
    }
}

/// The HTTP client wraps what the connection said: our own words are taken out again.
fn failed(to: &Authority, error: hyper_util::client::legacy::Error, progress: &UploadProgress) -> Failure {
    if let Some(own) = Error::within(&error) {
        return own.clone().into();
    }
    // Somebody is there and has answered: to ask again gets the same, and the connection was not dead.
    if is_unreadable(&error) {
        return Error::Unreadable { to: to.clone(), source: Arc::new(error) }.into();
    }
    let connection = error.connect_info();
    let has_answered = connection.and_then(Life::of).is_some_and(|life| life.is_marked());
    let is_shared = connection.is_some_and(Connected::is_negotiated_h2);
    let limit = if is_shared { DEAD_LIMIT_SHARED } else { DEAD_LIMIT };
    match blamed(Error::Exchange { to: to.clone(), source: Arc::new(error) }, progress) {
        error @ Error::Exchange { .. } if has_answered => Failure::Dead { error, limit },
        error => Failure::Error(error),
    }
}

/// Whether an answer came that is no HTTP/1.1.
fn is_unreadable(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_parse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Side;
    use crate::upstream::http::evidence::Evidence;

    #[test]
    fn a_broken_upload_is_the_clients_fault_and_a_broken_exchange_the_hosts() {
        let to = Authority::parse("quay.io", 443).unwrap();
        for (state, evidence) in [
            (UploadState::Upstream, Evidence::Broken),
            (UploadState::Client, Evidence::Nothing),
            (UploadState::Broken, Evidence::Nothing),
            (UploadState::Silent, Evidence::Nothing),
        ] {
            let progress = UploadProgress::default();
            progress.is(state);
            let source = Arc::new(std::io::Error::other("cut"));
            let error = blamed(Error::Exchange { to: to.clone(), source }, &progress);
            assert_eq!(Evidence::of(Err(&error)), evidence, "{state:?}");
            assert_eq!(
                error.side() == Side::Client,
                matches!(state, UploadState::Broken | UploadState::Silent),
                "{state:?}"
            );
            let late = Error::FirstByteTimeout { to: to.clone(), after: Duration::from_secs(1) };
            assert!(matches!(blamed(late, &progress), Error::FirstByteTimeout { .. }));
        }
    }
}
