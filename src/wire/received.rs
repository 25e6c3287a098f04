//! The body of a request, of which it is known whether anybody read it to its end.
//!
//! A server may answer before it has read a request's body, and clients send on meanwhile: such a connection of HTTP/1.1
//! ends with the answer, and should say so (RFC 9112, 9.6); such a stream of HTTP/2 has to be read on, since some clients
//! show its reset in place of the answer, even where it is `NO_ERROR` (RFC 9113, 8.1).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// What HTTP/1.1 may have read along with a head: such a body can end with its request all the same.
const READ_ALONG: u64 = 8 << 10;

/// Takes what nobody reads of a body of HTTP/2.
pub type Takes<B> = Arc<dyn Fn(B) + Send + Sync>;

/// A request's body as it comes.
pub struct Received<B: Body = Incoming> {
    body: Option<B>,
    is_ended: bool,
    unread: Unread<B>,
}

/// Whether a body of HTTP/1.1 was dropped before its end.
#[derive(Clone, Debug, Default)]
pub struct IsLeft(Option<Arc<AtomicBool>>);

/// What becomes of a body that is dropped before its end.
enum Unread<B> {
    Dropped,
    Said(Arc<AtomicBool>),
    Taken(Takes<B>),
}

impl<B: Body> Received<B> {
    /// No body: for a request that the proxy makes of another one.
    #[must_use]
    pub fn empty() -> Self {
        Self { body: None, is_ended: true, unread: Unread::Dropped }
    }

    /// The same request. Of HTTP/2, `takes` gets what is left of its body.
    pub fn of(request: Request<B>, takes: &Takes<B>) -> (Request<Self>, IsLeft) {
        let mut is_left = IsLeft::default();
        let is_long = || {
            // Chunks may have come with their head; nobody knows.
            let length = request.body().size_hint().exact();
            length.is_some_and(|length| length > READ_ALONG) || request.headers().contains_key(EXPECT)
        };
        let unread = if request.body().is_end_stream() {
            Unread::Dropped
        } else if request.version() == Version::HTTP_2 {
            Unread::Taken(takes.clone())
        } else if is_long() {
            Unread::Said(is_left.0.insert(Arc::default()).clone())
        } else {
            Unread::Dropped
        };
        (request.map(|body| Self { body: Some(body), is_ended: false, unread }), is_left)
    }
}

impl IsLeft {
    /// Whether it was, so far.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.as_ref().is_some_and(|is_left| is_left.load(Ordering::Acquire))
    }
}

impl<B: Body> Drop for Received<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !self.is_ended && !body.is_end_stream()) else { return };
        match &self.unread {
            Unread::Dropped => {}
            Unread::Said(is_left) => is_left.store(true, Ordering::Release),
            Unread::Taken(takes) => takes(body),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        this.is_ended |= match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(None | Some(Err(_))) => true,
            Poll::Pending => false,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http_body_util::{BodyExt as _, Full};

    use super::*;

    type Left = Arc<Mutex<Vec<Full<Bytes>>>>;

    /// A request, and where its body is taken.
    fn received(version: Version, length: usize) -> (Request<Received<Full<Bytes>>>, IsLeft, Left) {
        let left = Left::default();
        let takes: Takes<_> = Arc::new({
            let left = left.clone();
            move |body| left.lock().unwrap().push(body)
        });
        let request = Request::builder().version(version).body(Full::from(vec![0; length])).unwrap();
        let (request, is_left) = Received::of(request, &takes);
        (request, is_left, left)
    }

    #[tokio::test]
    async fn what_nobody_reads_is_told_or_taken() {
        let table = [
            (Version::HTTP_11, 0, (false, 0)),
            (Version::HTTP_11, 100, (false, 0)),
            (Version::HTTP_11, 100_000, (true, 0)),
            (Version::HTTP_2, 0, (false, 0)),
            (Version::HTTP_2, 100, (false, 1)),
            (Version::HTTP_2, 100_000, (false, 1)),
        ];
        for (version, length, expected) in table {
            let (request, is_left, left) = received(version, length);
            let held = request.into_body();
            assert!(!is_left.get() && left.lock().unwrap().is_empty(), "somebody may read it yet");
            drop(held);
            assert_eq!((is_left.get(), left.lock().unwrap().len()), expected, "{version:?} {length}");
            let (request, is_left, left) = received(version, length);
            assert_eq!(request.into_body().collect().await.unwrap().to_bytes().len(), length);
            assert!(!is_left.get() && left.lock().unwrap().is_empty(), "{version:?} {length} was read");
        }
    }

    #[test]
    fn a_small_body_that_waits_to_be_wanted_ends_its_connection() {
        let takes: Takes<Full<Bytes>> = Arc::new(|_| {});
        let request = Request::builder().header(EXPECT, "100-continue").body(Full::from("x")).unwrap();
        let (request, is_left) = Received::of(request, &takes);
        drop(request);
        assert!(is_left.get());
    }
}
