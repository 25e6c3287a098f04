//! Waits with a request's body until the upstream wants it, for a client that waits so (`Expect: 100-continue`, RFC 9110, 10.1.1).
//!
//! The upstream is asked in the same way. So a refusal reaches the client before it has sent anything, and the proxy's own 100
//! goes out only when the first byte is wanted: hyper sends it when a body is read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::{EXPECT, HeaderValue};
use http::{HeaderMap, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::wire::{Body, BodyError};

/// A server may not know of it (RFC 9110, 10.1.1): then the body is sent after as long as curl and Go wait.
const PATIENCE: Duration = Duration::from_secs(1);
const CONTINUE: HeaderValue = HeaderValue::from_static("100-continue");

/// The upstream's 100, once it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Continue(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    is_told: AtomicBool,
    waker: AtomicWaker,
}

/// A body that waits for it.
struct Waiting {
    body: Body,
    /// Until it is read.
    wait: Option<(Continue, Option<Pin<Box<Sleep>>>)>,
}

/// Whether a client waits to be told that its body is wanted.
#[must_use]
pub fn expects(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(CONTINUE.as_bytes()))
}

/// The request with a body that waits for the upstream's 100.
#[must_use]
pub fn waiting(request: Request<Body>) -> Request<Body> {
    if request.body().is_end_stream() {
        return request;
    }
    let told = Continue::default();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(told.clone());
    Request::from_parts(parts, Body::wrap(Waiting { body, wait: Some((told, None)) }))
}

/// Asks the upstream for a 100, where the body waits for one.
pub(crate) fn ask(request: &mut Request<Body>) {
    if request.extensions().get::<Continue>().is_some() {
        request.headers_mut().insert(EXPECT, CONTINUE);
    }
}

impl Continue {
    /// It has come.
    pub(crate) fn tell(&self) {
        self.0.is_told.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn is_told(&self) -> bool {
        self.0.is_told.load(Ordering::Acquire)
    }
}

impl Waiting {
    fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((told, timer)) = &mut self.wait {
            told.0.waker.register(cx.waker());
            let timer = timer.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
            if !told.is_told() && timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.wait = None;
        Poll::Ready(())
    }
}

impl HttpBody for Waiting {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_wanted(cx));
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use http_body_util::BodyExt as _;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_until_it_is_wanted_or_for_a_second() {
        for is_told in [true, false] {
            let mut request = waiting(Request::new(Body::full("x")));
            ask(&mut request);
            assert!(expects(request.headers()));
            let told = request.extensions().get::<Continue>().unwrap().clone();
            let begun = Instant::now();
            let mut reading = Box::pin(request.into_body().collect());
            assert!(poll!(&mut reading).is_pending());
            if is_told {
                told.tell();
            }
            assert_eq!(reading.await.unwrap().to_bytes(), "x");
            assert_eq!(begun.elapsed(), if is_told { Duration::ZERO } else { PATIENCE });
        }
        let mut empty = waiting(Request::new(Body::empty()));
        ask(&mut empty);
        assert!(!expects(empty.headers()));
    }
}
