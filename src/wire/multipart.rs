//! Sends several parts of one content in one answer: `multipart/byteranges` (RFC 9110, 14.6).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Body, BodyError, Span};

/// Parts, each after its own header, and the closing delimiter. Each part is made when it is due: a client that
/// requests many and reads none costs only a list of positions.
pub struct Multipart {
    media_type: String,
    total: u64,
    spans: vec::IntoIter<Span>,
    part: Box<dyn FnMut(Span) -> Body + Send>,
    /// Made ahead: as many as the source can prepare for.
    ahead: VecDeque<(Span, Body)>,
    depth: usize,
    /// The part that is being sent.
    now: Option<Body>,
    is_first: bool,
    is_closed: bool,
    left: u64,
}

/// The delimiter between parts. It occurs in no manifest and is as unlikely in a layer as any other text; clients read
/// parts by the length in `Content-Range` anyway.
const BOUNDARY: &str = "pullthrough-byteranges-8c1f6c0b5d2e4a97";

impl Multipart {
    /// The value of the answer's `Content-Type`.
    pub const CONTENT_TYPE: &str = "multipart/byteranges; boundary=pullthrough-byteranges-8c1f6c0b5d2e4a97";

    /// The `spans` of a content of `total` bytes and of type `media_type`, each made by `part`, at most `depth` of them
    /// ahead.
    #[must_use]
    pub fn new(
        media_type: &str,
        total: u64,
        spans: Vec<Span>,
        depth: usize,
        part: impl FnMut(Span) -> Body + Send + 'static,
    ) -> Self {
        let heads =
            spans.iter().enumerate().map(|(position, span)| head(position == 0, media_type, *span, total).len());
        let heads: usize = heads.sum();
        let left = (heads + close().len()) as u64 + spans.iter().map(|span| span.len()).sum::<u64>();
        Self {
            media_type: media_type.to_owned(),
            total,
            spans: spans.into_iter(),
            part: Box::new(part),
            ahead: VecDeque::new(),
            depth: depth.max(1),
            now: None,
            is_first: true,
            is_closed: false,
            left,
        }
    }

    /// The bytes of the body that are left to send.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.left
    }

    /// Whether everything was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

fn head(is_first: bool, media_type: &str, span: Span, total: u64) -> String {
    let lead = if is_first { "" } else { "\r\n" };
    let (first, last) = (span.from, span.to.saturating_sub(1));
    format!("{lead}--{BOUNDARY}\r\nContent-Type: {media_type}\r\nContent-Range: bytes {first}-{last}/{total}\r\n\r\n")
}

fn close() -> String {
    format!("\r\n--{BOUNDARY}--\r\n")
}

impl http_body::Body for Multipart {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = loop {
            if let Some(part) = &mut this.now {
                match ready!(http_body::Body::poll_frame(Pin::new(part), cx)) {
                    None => this.now = None,
                    Some(frame) => break frame,
                }
                continue;
            }
            while this.ahead.len() < this.depth {
                let Some(span) = this.spans.next() else { break };
                this.ahead.push_back((span, (this.part)(span)));
            }
            if let Some((span, part)) = this.ahead.pop_front() {
                let head = head(this.is_first, &this.media_type, span, this.total);
                this.is_first = false;
                this.now = Some(part);
                break Ok(Frame::data(head.into()));
            }
            if this.is_closed {
                return Poll::Ready(None);
            }
            this.is_closed = true;
            break Ok(Frame::data(close().into()));
        };
        if let Ok(frame) = &frame {
            this.left -= frame.data_ref().map_or(0, |data| data.len() as u64).min(this.left);
        }
        Poll::Ready(Some(frame))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::*;
    use crate::wire::collect;

    #[tokio::test]
    async fn parts_stand_between_delimiters_and_the_length_is_exact() {
        let spans = vec![Span { from: 0, to: 2 }, Span { from: 8, to: 10 }];
        let part = |span: Span| Body::full(if span.from == 0 { "ab" } else { "ij" });
        let multipart = Multipart::new("application/octet-stream", 10, spans, 1, part);
        let length = multipart.len();
        let text = String::from_utf8(collect(multipart, 10_000).await.unwrap().to_vec()).unwrap();
        assert_eq!(text.len() as u64, length);
        let boundary = Multipart::CONTENT_TYPE.rsplit('=').next().unwrap();
        let header = |range: &str| {
            format!("--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/10\r\n\r\n")
        };
        assert_eq!(text, format!("{}ab\r\n{}ij\r\n--{boundary}--\r\n", header("0-1"), header("8-9")));
    }

    #[tokio::test]
    async fn a_part_is_made_when_it_is_due() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = made.clone();
        let part = move |_: Span| {
            counted.fetch_add(1, Ordering::Relaxed);
            Body::full("x")
        };
        let spans = (0..500).map(|at| Span { from: at * 2, to: at * 2 + 1 }).collect();
        let mut multipart = Multipart::new("text/plain", 1000, spans, 1, part);
        assert_eq!(made.load(Ordering::Relaxed), 0);
        for taken in 1..=4_usize {
            multipart.frame().await.unwrap().unwrap();
            assert_eq!(made.load(Ordering::Relaxed), taken.div_ceil(2), "a head, and then the part");
        }
        let rest = collect(&mut multipart, 1 << 20).await.unwrap();
        assert_eq!((multipart.len(), made.load(Ordering::Relaxed), rest.is_empty()), (0, 500, false));
    }
}
