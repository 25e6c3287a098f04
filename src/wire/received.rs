//! The body of a request, of which a little that nobody reads is read off before the answer goes out.
//!
//! Threat: none; a courtesy to clients. A stream of HTTP/2 that is answered before its body has come is reset, and some
//! clients (curl 7.88) then show the reset in place of the answer, even where it is `NO_ERROR` (RFC 9113, 8.1).
//! Bound: so many bytes for so long, and nothing of them is kept. A longer body, and one that waits for a `100
//! Continue`, is left.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// So much is read off.
const LIMIT: u64 = 64 << 10;
/// And for so long.
const TIME: Duration = Duration::from_secs(1);

/// A request's body as it comes.
pub struct Received<B = Incoming>(Kind<B>);

/// What is left of a body that is handed over.
pub struct Leftover<B = Incoming>(Option<Arc<Mutex<B>>>);

enum Kind<B> {
    Direct(B),
    Shared(Arc<Mutex<B>>),
    /// There is none.
    Empty,
}

impl<B> Received<B> {
    /// No body: for a request that the proxy makes of another one.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Received<B> {
    /// The same request, and what will be left of its body.
    pub fn of(request: Request<B>) -> (Request<Self>, Leftover<B>) {
        let waits = request.headers().contains_key(EXPECT) || request.body().size_hint().lower() > LIMIT;
        if request.version() != Version::HTTP_2 || request.body().is_end_stream() || waits {
            return (request.map(|body| Self(Kind::Direct(body))), Leftover(None));
        }
        let (parts, body) = request.into_parts();
        let shared = Arc::new(Mutex::new(body));
        (Request::from_parts(parts, Self(Kind::Shared(shared.clone()))), Leftover(Some(shared)))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Leftover<B> {
    /// Reads off what nobody reads any more, within the bounds.
    pub async fn read_off(self) {
        // Else somebody still reads it.
        let Some(body) = self.0.and_then(Arc::into_inner) else { return };
        let mut body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
        let reading = async {
            let mut read = 0;
            while read <= LIMIT
                && let Some(Ok(frame)) = body.frame().await
            {
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
        };
        let _ = tokio::time::timeout(TIME, reading).await; // the rest is reset
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Direct(body) => Pin::new(body).poll_frame(cx),
            Kind::Shared(body) => Pin::new(&mut *body.lock().unwrap_or_else(PoisonError::into_inner)).poll_frame(cx),
            Kind::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Direct(body) => body.is_end_stream(),
            Kind::Shared(body) => body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream(),
            Kind::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Direct(body) => body.size_hint(),
            Kind::Shared(body) => body.lock().unwrap_or_else(PoisonError::into_inner).size_hint(),
            Kind::Empty => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::StreamExt as _;
    use http_body_util::StreamBody;

    use super::*;

    /// A body of so many pieces of 1 KiB, which counts what is read of it; after them it ends, or nothing comes.
    fn body(pieces: usize, ends: bool, read: &Arc<AtomicUsize>) -> crate::wire::Body {
        let read = read.clone();
        let come = futures_util::stream::iter(0..pieces).map(move |_| {
            read.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[0; 1024])))
        });
        let rest = futures_util::stream::pending().take(if ends { 0 } else { 1 });
        crate::wire::Body::wrap(StreamBody::new(come.chain(rest)))
    }

    fn request(version: Version, body: crate::wire::Body) -> Request<crate::wire::Body> {
        Request::builder().version(version).body(body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_little_is_read_off_and_no_more() {
        let table = [
            (Version::HTTP_2, 10, true, 10),
            (Version::HTTP_2, 10, false, 10),
            (Version::HTTP_2, 1000, true, 65),
            (Version::HTTP_11, 10, true, 0),
        ];
        for (version, pieces, ends, expected) in table {
            let (read, begun) = (Arc::default(), tokio::time::Instant::now());
            let (received, leftover) = Received::of(request(version, body(pieces, ends, &read)));
            drop(received);
            leftover.read_off().await;
            assert_eq!(read.load(Ordering::Relaxed), expected, "{version:?} {pieces} {ends}");
            assert!(begun.elapsed() <= TIME + Duration::from_millis(1));
        }
    }

    #[tokio::test]
    async fn what_somebody_reads_is_left_alone() {
        let read = Arc::default();
        let (mut received, leftover) = Received::of(request(Version::HTTP_2, body(3, true, &read)));
        leftover.read_off().await;
        assert_eq!(read.load(Ordering::Relaxed), 0);
        assert!(received.body_mut().frame().await.is_some());
        assert_eq!(read.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_waits_to_be_told_to_go_on_is_not_kept_waiting() {
        let read = Arc::default();
        let mut request = request(Version::HTTP_2, body(3, true, &read));
        request.headers_mut().insert(EXPECT, "100-continue".parse().unwrap());
        let (received, leftover) = Received::of(request);
        drop(received);
        leftover.read_off().await;
        assert_eq!(read.load(Ordering::Relaxed), 0);
    }
}
