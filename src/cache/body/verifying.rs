//! Verifies a blob that passes through without being stored.
//!
//! The last byte stays back until the digest matched, so that here too no client can take a wrong content
//! for a finished one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::cache::mismatch::Mismatch;
use crate::oci::{Digest, Hasher};
use crate::wire::{self, BodyError};

/// Passes a whole content on and breaks it off if it is not `wanted`.
pub struct Passing {
    body: wire::Body,
    wanted: Digest,
    hasher: Option<Hasher>,
    held: Bytes,
}

impl Passing {
    /// Passes `body` on, which must be all of the content.
    #[must_use]
    pub fn new(body: wire::Body, wanted: Digest) -> Self {
        Self { body, wanted, hasher: Some(Hasher::new(wanted.algorithm())), held: Bytes::new() }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            let Some(hasher) = this.hasher.as_mut() else { return Poll::Ready(None) };
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(cause)) => return Poll::Ready(Some(Err(cause))),
                None => {
                    let found = this.hasher.take().map(Hasher::finish);
                    return Poll::Ready(match found {
                        Some(found) if found != this.wanted => {
                            Some(Err(BodyError::new(Mismatch { wanted: this.wanted, found })))
                        }
                        _ if this.held.is_empty() => None,
                        _ => Some(Ok(Frame::data(std::mem::take(&mut this.held)))),
                    });
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            hasher.update(&data);
            let before = std::mem::replace(&mut this.held, data);
            if !before.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(before))));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.len() as u64;
        self.body.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + held))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;
    use crate::oci::Algorithm;

    fn pieces() -> wire::Body {
        let frames = ["one ", "two ", "three"]
            .map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from_static(piece.as_bytes()))));
        wire::Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn the_right_content_passes_whole() {
        let passing = Passing::new(pieces(), Digest::of(Algorithm::Sha256, b"one two three"));
        assert_eq!(wire::collect(passing, 100).await.unwrap(), "one two three");
    }

    #[tokio::test]
    async fn a_wrong_content_never_ends_cleanly() {
        let passing = Passing::new(pieces(), Digest::of(Algorithm::Sha256, b"another"));
        assert!(wire::collect(passing, 100).await.is_err());
    }
}
