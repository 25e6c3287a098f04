//! A reader of a fill: a body that takes bytes from the staged file as they land, at its own pace.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::detached::Detached;
use super::waiter::Waiter;
use crate::cache::body::pump::Pump;
use crate::cache::fill::plan::demand::ReaderId;
use crate::cache::fill::plan::phase::Gone;
use crate::cache::fill::staged_file::StagedHandle;
use crate::wire::{BodyError, Span};

/// Follows a fill over a span, or to its end.
pub struct Follower {
    waiter: Waiter,
    reader: ReaderId,
    at: u64,
    end: Option<u64>,
    hold: bool,
    pump: Pump<StagedHandle>,
    /// Since the disk takes no more.
    detached: Option<Detached>,
}

impl Follower {
    /// A reader of the whole content (`span` is `None`) or of a part of it. The last byte of a whole, and of a part
    /// from 0 to the end, is held back until the digest matched.
    #[must_use]
    pub fn of(waiter: &Waiter, span: Option<Span>) -> Self {
        let total = waiter.fill().total();
        let hold = span.is_none_or(|span| span.from == 0 && total.is_none_or(|total| span.to >= total));
        Self::new(waiter.clone(), span, hold)
    }

    /// A reader that goes on with a content of which it has had the bytes before `span`. `hold` says that it reads the
    /// whole.
    #[must_use]
    pub fn of_rest(waiter: &Waiter, span: Span, hold: bool) -> Self {
        Self::new(waiter.clone(), Some(span), hold)
    }

    fn new(waiter: Waiter, span: Option<Span>, hold: bool) -> Self {
        let end = span.map(|span| span.to).or_else(|| waiter.fill().total());
        let at = span.map_or(0, |span| span.from);
        let reader = waiter.fill().join_reader(Span { from: at, to: end.unwrap_or(u64::MAX) });
        let pump = Pump::new(waiter.fill().staged().handle());
        Self { waiter, reader, at, end, hold, pump, detached: None }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.end == Some(self.at) {
            return Poll::Ready(None);
        }
        if let Some(detached) = &mut self.detached {
            return detached.poll(cx).map(|bytes| bytes.map(|bytes| bytes.map_err(BodyError::new)));
        }
        let readable = match ready!(self.waiter.fill().readable(self.at, self.hold, self.reader, cx)) {
            Ok(end) => self.end.map_or(end, |own| own.min(end)),
            Err(Gone::Broken(fault)) => return Poll::Ready(Some(Err(BodyError::new(fault)))),
            Err(Gone::Detached(_)) => {
                let end = self.end.or_else(|| self.waiter.fill().total());
                self.detached = Some(Detached::begin(&self.waiter, self.at, end, self.hold));
                return self.poll_bytes(cx);
            }
        };
        if readable == self.at {
            return Poll::Ready(None); // the end of a content whose length was not known before
        }
        let bytes = ready!(self.pump.poll_chunk(cx, Span { from: self.at, to: readable }));
        Poll::Ready(Some(bytes.map_err(BodyError::new)))
    }
}

impl Body for Follower {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let bytes = ready!(this.poll_bytes(cx));
        Poll::Ready(bytes.map(|bytes| {
            bytes.map(|bytes| {
                this.at += bytes.len() as u64;
                Frame::data(bytes)
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.end == Some(self.at) && (!self.hold || self.detached.is_some() || self.waiter.fill().verified_now())
    }

    fn size_hint(&self) -> SizeHint {
        self.end.map_or_else(SizeHint::default, |end| SizeHint::with_exact(end - self.at))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.waiter.fill().leave(self.at, self.reader);
    }
}
