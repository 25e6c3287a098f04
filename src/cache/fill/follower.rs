//! A reader of a fill: a body that takes bytes from the staged file as they land, at its own pace.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::fill::Fill;
use super::plan::Seat;
use crate::cache::reading::Pump;
use crate::store::Staged;
use crate::wire::{BodyError, Span};

/// Follows a fill over a span, or to its end.
pub struct Follower {
    fill: Arc<Fill>,
    seat: Seat,
    at: u64,
    end: Option<u64>,
    hold: bool,
    pump: Pump<Arc<Staged>>,
}

impl Follower {
    pub(super) fn new(fill: Arc<Fill>, staged: Arc<Staged>, seat: Seat, span: Option<Span>, hold: bool) -> Self {
        let end = span.map(|span| span.to).or_else(|| fill.total());
        Self { fill, seat, at: span.map_or(0, |span| span.from), end, hold, pump: Pump::new(staged) }
    }
}

impl Body for Follower {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.end == Some(this.at) {
            return Poll::Ready(None);
        }
        let readable = match ready!(this.fill.readable(this.at, this.hold, this.seat, cx)) {
            Ok(end) => this.end.map_or(end, |own| own.min(end)),
            Err(fault) => return Poll::Ready(Some(Err(BodyError::new(fault)))),
        };
        if readable == this.at {
            return Poll::Ready(None); // the end of a content whose length was not known before
        }
        let bytes = ready!(this.pump.poll_chunk(cx, Span { from: this.at, to: readable }));
        Poll::Ready(Some(bytes.map_err(BodyError::new).map(|bytes| {
            this.at += bytes.len() as u64;
            Frame::data(bytes)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.end == Some(self.at) && (!self.hold || self.fill.verified_now())
    }

    fn size_hint(&self) -> SizeHint {
        self.end.map_or_else(SizeHint::default, |end| SizeHint::with_exact(end - self.at))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.fill.leave(self.at, self.seat);
    }
}
