//! Sends one request over one connection, and waits for the head of its answer within the timeouts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::expect::Continue;
use super::failure::{AttemptFailure, blamed, failed};
use super::forwarded;
use super::interim::Interim;
use super::upload::{Counted, SILENCE, UploadProgress, UploadState};
use crate::oci::Authority;
use crate::upstream::Error;
use crate::upstream::http::bound;
use crate::upstream::http::fit::Expectation;
use crate::upstream::http::idle::{BodyPace, Watched};
use crate::upstream::http::pool::{BodyReader, Pool, Through};
use crate::upstream::net::life::{Life, StreamPlace};
use crate::wire::Body;

/// How long an answer may take, and who takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeLimits {
    /// To its head, since the last piece of the request's body; not while the client is waited for.
    pub(crate) first_byte: Duration,
    /// Between two pieces of its body.
    pub(crate) idle: Duration,
    /// Whether its body may not trickle.
    pub(crate) brisk: bool,
    pub(crate) reader: BodyReader,
    /// Whether its body is a download, which takes long.
    pub(crate) is_download: bool,
    /// Whether a second connection is tried where the first is silent. Not of a page of a client's choice, which may wait
    /// for an event, and may count its visitors.
    pub(crate) is_hedged: bool,
}

/// A connection on which an answer is waited for longer than this takes no further request: it may be dead.
const SLOW: Duration = Duration::from_secs(10);

/// How a request is sent.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    pub(super) pool: &'a Pool,
    pub(super) to: &'a Authority,
    pub(super) limits: ExchangeLimits,
    /// On no connection that is older.
    pub(super) since: Option<Instant>,
    /// Rung when an old connection has been silent for so long.
    pub(super) silence: Option<(&'a Notify, Duration)>,
}

/// Sends a request, whose URI is absolute. `may_leave`: it can be sent once more, elsewhere.
pub(super) async fn attempt(
    course: Course<'_>,
    mut request: Request<Body>,
    through: Through,
    may_leave: bool,
) -> Result<Response<Body>, AttemptFailure> {
    let Course { pool, to, limits, .. } = course;
    let expected = Expectation::of(&request);
    let progress = Arc::new(UploadProgress::default());
    if !request.body().is_end_stream() {
        request = request.map(|body| Body::wrap(Counted::new(body, Arc::clone(&progress))));
    }
    let awaited_100 = request.extensions().get::<Continue>().cloned();
    let interim = Interim::of(&mut request);
    if request.uri().scheme() == Some(&Scheme::HTTP)
        && let Some(forwarding) = pool.egress.forwarding(to, pool.given).await?
    {
        let asked = forwarded::ask(forwarding, to, request);
        let failed = |error| blamed(error, &progress).into();
        let answer = awaited(asked, to, limits, &progress, &interim, failed, || {}).await?;
        return Ok(watched(judged(answer, to, expected)?, to, expected, limits, None, None));
    }
    let begun = Instant::now();
    let connection = capture_connection(&mut request);
    let unanswered = Unanswered(Some(connection.clone()));
    let asked = pool.client(limits.reader, through).request(request);
    let failed = |error| failed(to, error, &progress);
    let is_pooled = through == Through::Pooled;
    let place = OnceLock::new();
    let answer = tokio::select! {
        biased;
        answer = awaited(asked, to, limits, &progress, &interim, failed, || retire(&connection)) => answer,
        failure = course.left(connection.clone(), &place, is_pooled && may_leave) => Err(failure),
        failure = course.silent(connection.clone(), begun), if is_pooled => Err(failure),
        failure = course.wanted(connection.clone(), awaited_100) => Err(failure),
    };
    if matches!(answer, Err(AttemptFailure::Crowded)) {
        unanswered.answered(); // it is well, and serves others
        return answer.map(|answer| answer.map(Body::wrap));
    }
    let mut answer = answer?;
    unanswered.answered();
    if let Some(life) = answer.extensions_mut().remove::<Life>() {
        life.mark();
    }
    if expected.misfit(&answer).is_some() || bound::is_spoken(answer.headers()) {
        retire(&connection);
    }
    Ok(watched(judged(answer, to, expected)?, to, expected, limits, Some(connection), place.into_inner()))
}

impl Course<'_> {
    /// Ends if the request went out on a connection that it should not have, once there is one.
    async fn left(
        self,
        mut connection: CaptureConnection,
        place: &OnceLock<StreamPlace>,
        may_leave: bool,
    ) -> AttemptFailure {
        let life = connection.wait_for_connection_metadata().await.as_ref().and_then(Life::of);
        let Some(life) = life else { return std::future::pending().await };
        if self.since.is_some_and(|since| life.born < since) {
            retire(&connection);
            return AttemptFailure::Old;
        }
        let place = place.get_or_init(|| life.enter());
        if !may_leave {
            return std::future::pending().await;
        }
        if !place.is_crowded(self.limits.is_download) {
            place.left_out().await;
        }
        AttemptFailure::Crowded
    }

    /// Has the body sent that waits for a 100, once one comes over HTTP/2. Never ends.
    ///
    /// It may be another exchange's, and this one's be refused: then the body is sent that need not have been.
    async fn wanted(self, mut connection: CaptureConnection, awaited: Option<Continue>) -> AttemptFailure {
        if let Some(awaited) = awaited {
            let life = connection.wait_for_connection_metadata().await.as_ref().and_then(Life::of);
            if let Some(life) = life {
                life.interim().await;
                awaited.tell();
            }
        }
        std::future::pending().await
    }

    /// Rings when the connection that the request went out on, one from before `begun`, has brought nothing for as long as its
    /// host takes. Never ends.
    async fn silent(self, mut connection: CaptureConnection, begun: Instant) -> AttemptFailure {
        let life = connection.wait_for_connection_metadata().await.as_ref().and_then(Life::of);
        if let (Some(life), Some((bell, patience))) = (life.filter(|life| life.born < begun), self.silence) {
            loop {
                let heard = life.heard();
                tokio::time::sleep(patience).await;
                if life.heard() == heard {
                    break;
                }
            }
            tracing::debug!(to = %self.to, ?patience, "a pooled connection is silent; a new one is tried");
            bell.notify_one();
        }
        std::future::pending().await
    }
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
    place: Option<StreamPlace>,
) -> Response<Body> {
    let pace = BodyPace { idle: limits.idle, brisk: limits.brisk, ends: expected.has_end(&answer) };
    let broken = move |error| {
        let _held = &place;
        if let Some(connection) = &connection {
            retire(connection);
        }
        error
    };
    answer.map(|body| Body::wrap(Watched::new(body, to.clone(), pace).map_err(broken)))
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
/// stays open for others, and a peer that leaves one question unanswered may do worse.
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
    failed: impl Fn(E) -> AttemptFailure,
    slow: impl Fn(),
) -> Result<Response<B>, AttemptFailure> {
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
