//! Several parts of one content in one answer: `multipart/byteranges` (RFC 9110, 14.6).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Body, BodyError, Span};

/// Parts, each behind a header of its own, and the closing delimiter.
pub struct Multipart {
    pieces: VecDeque<Body>,
    left: u64,
}

/// The delimiter between parts. It stands in no manifest and is as unlikely in a layer as any other text;
/// clients read parts by their `Content-Range` length anyway.
const BOUNDARY: &str = "pullthrough-byteranges-8c1f6c0b5d2e4a97";

impl Multipart {
    /// The value of the answer's `Content-Type`.
    pub const CONTENT_TYPE: &str = "multipart/byteranges; boundary=pullthrough-byteranges-8c1f6c0b5d2e4a97";

    /// The `parts` of a content of `total` bytes and of type `media_type`.
    #[must_use]
    pub fn new(media_type: &str, total: u64, parts: Vec<(Span, Body)>) -> Self {
        let mut pieces = VecDeque::with_capacity(parts.len() * 2 + 1);
        let mut left = 0;
        for (position, (span, body)) in parts.into_iter().enumerate() {
            let lead = if position == 0 { "" } else { "\r\n" };
            let (first, last) = (span.from, span.to.saturating_sub(1));
            let head = format!(
                "{lead}--{BOUNDARY}\r\nContent-Type: {media_type}\r\nContent-Range: bytes {first}-{last}/{total}\r\n\r\n"
            );
            left += head.len() as u64 + span.len();
            pieces.push_back(Body::full(head));
            pieces.push_back(body);
        }
        let close = format!("\r\n--{BOUNDARY}--\r\n");
        left += close.len() as u64;
        pieces.push_back(Body::full(close));
        Self { pieces, left }
    }

    /// The length of the whole answer's body in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.left
    }

    /// Whether all has been sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl http_body::Body for Multipart {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        while let Some(piece) = this.pieces.front_mut() {
            match ready!(http_body::Body::poll_frame(Pin::new(piece), cx)) {
                None => drop(this.pieces.pop_front()),
                Some(frame) => {
                    if let Ok(frame) = &frame {
                        this.left -= frame.data_ref().map_or(0, |data| data.len() as u64).min(this.left);
                    }
                    return Poll::Ready(Some(frame));
                }
            }
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::collect;

    #[tokio::test]
    async fn parts_stand_between_delimiters_and_the_length_is_exact() {
        let part = |from, to, text: &'static str| (Span { from, to }, Body::full(text));
        let multipart = Multipart::new("application/octet-stream", 10, vec![part(0, 2, "ab"), part(8, 10, "ij")]);
        let length = multipart.len();
        let text = String::from_utf8(collect(multipart, 10_000).await.unwrap().to_vec()).unwrap();
        assert_eq!(text.len() as u64, length);
        let boundary = Multipart::CONTENT_TYPE.rsplit('=').next().unwrap();
        let header = |range: &str| {
            format!("--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/10\r\n\r\n")
        };
        assert_eq!(text, format!("{}ab\r\n{}ij\r\n--{boundary}--\r\n", header("0-1"), header("8-9")));
    }
}
