//! Exchanges one request for its answer over one pool: by a second connection where the first one does not do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::HOST;
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attempt::{Course, ExchangeLimits, attempt};
use super::expect;
use super::failure::AttemptFailure;
use crate::host::asked_anew;
use crate::oci::Authority;
use crate::upstream::Error;
use crate::upstream::http::bound;
use crate::upstream::http::patience::About;
use crate::upstream::http::pool::{Pool, Through};
use crate::wire::{self, Body};

/// How many may be found to be too old: as many as a pool keeps, for as many hosts as one name has.
const OLD_LIMIT: usize = 256;
/// So often a request is sent again with which a peer has not begun: what it never begins with is not its business.
const UNBEGUN_LIMIT: usize = 2;
/// A pool has no idle connection that is older.
const RECENT: Duration = Duration::from_secs(60);

/// Sends a request, whose URI is absolute, and waits for the head of the answer.
///
/// A server may close an idle connection just as a request goes out on it. Whether the request was read cannot
/// be known, so only GET and HEAD without a body are sent again, and only after a failure on such a connection. The
/// same where the connection is older than `since`, or is silent for longer than its host takes: then the first answer
/// counts, and the other request is dropped.
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
    let since = since.max(pool.patience.doubted(to));
    if !is_repeatable(&request) {
        expect::ask(&mut request);
        // It cannot be taken back from an old connection.
        let is_doubtful = since.is_some_and(|since| since.elapsed() < RECENT);
        let through = if is_doubtful { Through::Fresh } else { Through::Pooled };
        let course = Course { pool, to, limits, since: None, silence: None };
        return Box::pin(attempt(course, request, through, false)).await.map_err(|failure| failure.into_error(to));
    }
    let (head, _) = request.into_parts();
    let (bell, asked) = (Notify::new(), AtomicUsize::new(0));
    let about = About::path(head.uri.path());
    let patience = pool.patience.of(to, about);
    let course = Course { pool, to, limits, since, silence: limits.is_hedged.then_some((&bell, patience)) };
    let ask = || {
        let request = Request::from_parts(head.clone(), Body::empty());
        let is_second = asked.fetch_add(1, Ordering::Relaxed) > 0;
        Box::pin(async move {
            let begun = Instant::now();
            let through = if is_second { Through::Fresh } else { Through::Pooled };
            let answer = repeated(course, request, through).await?;
            pool.patience.answered(to, about, begun.elapsed());
            if is_second {
                pool.patience.doubt(to, begun);
            }
            Ok(answer)
        })
    };
    // Two at most, whatever else is found to be silent.
    let again = || async {
        if asked.load(Ordering::Relaxed) > 1 {
            std::future::pending::<()>().await;
        }
        bell.notified().await;
    };
    asked_anew(ask, again).await
}

/// Sends a request that may be sent again, until a connection serves it.
async fn repeated(
    course: Course<'_>,
    mut request: Request<Body>,
    mut through: Through,
) -> Result<Response<Body>, Error> {
    let (mut dead, mut old, mut unbegun) = (0, 0, 0);
    loop {
        let again = copy(&request);
        let course = Course { since: course.since.filter(|_| old < OLD_LIMIT), ..course };
        match attempt(course, request, through, true).await {
            Err(AttemptFailure::Dead { limit, .. }) if dead < limit => dead += 1,
            Err(AttemptFailure::Old) => old += 1,
            Err(AttemptFailure::Crowded) => through = Through::Fresh,
            Err(AttemptFailure::Unbegun(_)) if unbegun < UNBEGUN_LIMIT => {
                (unbegun, through) = (unbegun + 1, Through::Fresh)
            }
            outcome => return outcome.map_err(|failure| failure.into_error(course.to)),
        }
        request = again;
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
