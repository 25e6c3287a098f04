//! Wraps a message body of any origin in one type.
//!
//! An error in the middle of a body breaks the connection or resets the stream: hyper never ends a message cleanly
//! after one.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// A body that streams bytes.
pub struct Body(UnsyncBoxBody<Bytes, BodyError>);

/// The error that cut a body short.
pub struct BodyError(Box<dyn Error + Send + Sync>);

impl Body {
    /// A body without bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::wrap(Empty::new())
    }

    /// A body of these bytes.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::wrap(Full::new(bytes.into()))
    }

    /// Any other body.
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(body.map_err(|cause| BodyError(cause.into())).boxed_unsync())
    }
}

impl BodyError {
    /// The error of a body that `cause` cut short.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", http_body::Body::size_hint(&self.0))
    }
}

impl fmt::Debug for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A body longer than its reader allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is longer than {0} bytes")]
pub struct TooLong(pub usize);

/// A body that took longer than its reader allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body did not end within {} s", .0.as_secs())]
pub struct TooSlow(pub Duration);

/// Reads a whole body of at most `limit` bytes within `time`. For bodies that a peer sends.
///
/// # Errors
/// [`TooLong`], [`TooSlow`], or what broke the body.
pub async fn collect_within<B>(body: B, limit: usize, time: Duration) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    tokio::time::timeout(time, collect(body, limit)).await.unwrap_or_else(|_| Err(BodyError::new(TooSlow(time))))
}

/// Reads a whole body of at most `limit` bytes. The caller bounds the time.
///
/// # Errors
/// [`TooLong`], or what broke the body.
pub async fn collect<B>(body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::new)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(BodyError::new(TooLong(limit)));
        }
        if first.is_empty() && rest.is_empty() {
            first = data; // most small bodies are one frame: no copy
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    fn pieces(pieces: &[&'static [u8]]) -> Body {
        let frames: Vec<Result<_, BodyError>> = pieces.iter().map(|p| Ok(Frame::data(Bytes::from_static(p)))).collect();
        Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn collects_pieces_in_order() {
        let lists: [&[&'static [u8]]; 4] = [&[], &[b"one"], &[b"one", b"two"], &[b"", b"one", b"", b"two", b"three"]];
        for list in lists {
            assert_eq!(collect(pieces(list), 100).await.unwrap(), list.concat());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_read_for_a_while() {
        let drip = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let body = StreamBody::new(Box::pin(drip));
        let error = collect_within(body, 1000, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), "the body did not end within 5 s");
    }

    #[tokio::test]
    async fn refuses_one_byte_too_many() {
        assert!(collect(pieces(&[b"12345", b"67890"]), 10).await.is_ok());
        assert!(collect(pieces(&[b"12345", b"67890"]), 9).await.is_err());
    }
}
