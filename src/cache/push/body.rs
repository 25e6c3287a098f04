//! Passes a push's body on as it comes, and hands a copy of each piece to be staged.
//!
//! Memory: a piece is shared, not copied, and at most [`PENDING_LIMIT`](super::staging::PENDING_LIMIT) bytes wait for the disk. Then
//! the client is not read for a moment, and if the disk still takes nothing, the staging ends and the push goes on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::staging::Feed;
use crate::host::LogThrottle;
use crate::wire::{Body, BodyError};

/// So much longer than it takes without it may a push take for the disk's sake, beside twice that time.
const PATIENCE: Duration = Duration::from_secs(5);

static TOO_SLOW: LogThrottle = LogThrottle::new();

/// A request's body that is staged on its way.
pub(crate) struct StagedBody {
    body: Body,
    feed: Feed,
    /// The bytes to come, if that was said: one that has sent them is polled no more.
    left: Option<u64>,
    begun: Instant,
    /// It has waited for the disk so long, before the wait that is under way.
    waited: Duration,
    waiting: Option<DiskWait>,
}

/// A wait for the disk.
struct DiskWait {
    since: Instant,
    end: Pin<Box<Sleep>>,
}

impl StagedBody {
    pub(crate) fn new(body: Body, feed: Feed) -> Self {
        let left = body.size_hint().exact();
        let mut staged = Self { body, feed, left, begun: Instant::now(), waited: Duration::ZERO, waiting: None };
        staged.look_for_end();
        staged
    }

    fn look_for_end(&mut self) {
        if self.left == Some(0) || self.body.is_end_stream() {
            self.feed.end();
        }
    }

    /// Waits until the disk has taken what came before, or until all waits together were long enough: as long as the rest of the
    /// push took, and [`PATIENCE`].
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.feed.has_room(cx) {
            let (begun, waited) = (self.begun, self.waited);
            let waiting = self.waiting.get_or_insert_with(|| {
                let since = Instant::now();
                let without = since.duration_since(begun).saturating_sub(waited);
                let patience = (PATIENCE + without).saturating_sub(waited);
                DiskWait { since, end: Box::pin(sleep(patience)) }
            });
            if waiting.end.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if TOO_SLOW.is_due() {
                tracing::warn!(
                    "the disk does not keep up with a push; it goes on without being cached. Similar lines are not logged for a minute"
                );
            }
            self.feed.give_up();
        }
        if let Some(DiskWait { since, .. }) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        Poll::Ready(())
    }
}

impl HttpBody for StagedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_room(cx));
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    this.feed.offer(piece);
                    this.left = this.left.map(|left| left.saturating_sub(piece.len() as u64));
                }
                this.look_for_end();
            }
            Some(Err(_)) => this.feed.give_up(),
            None => this.feed.end(),
        }
        Poll::Ready(frame)
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
    use super::super::staging::PENDING_LIMIT;
    use super::*;
    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_takes_nothing_holds_a_push_back_once_and_never_more_bytes_than_may_wait() {
        const PIECE: usize = 64 << 10;
        let pieces = futures_util::stream::iter(0..100);
        let pieces = pieces.map(|_| Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[0; PIECE]))));
        let (feed, received) = Feed::untaken();
        let mut body = StagedBody::new(Body::wrap(StreamBody::new(pieces)), feed);
        let (begun, mut passed) = (Instant::now(), 0);
        while let Some(frame) = body.frame().await {
            passed += frame.unwrap().data_ref().map_or(0, Bytes::len);
            assert!(body.feed.waiting() < PENDING_LIMIT + PIECE);
        }
        assert_eq!((passed, begun.elapsed()), (100 * PIECE, PATIENCE));
        assert_eq!(received.len(), PENDING_LIMIT / PIECE, "the rest was not kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_takes_little_at_a_time_holds_a_push_back_no_longer_in_all() {
        const PIECE: usize = 1 << 20;
        let pieces = futures_util::stream::iter(0..100);
        let pieces = pieces.map(|_| Ok::<_, BodyError>(Frame::data(Bytes::from(vec![0; PIECE]))));
        let (feed, mut received) = Feed::untaken();
        let taken = feed.pending();
        let disk = tokio::spawn(async move {
            let mut count = 0;
            while let Some(piece) = received.recv().await {
                sleep(Duration::from_secs(1)).await;
                taken.written(piece.len());
                count += 1;
            }
            count
        });
        let mut body = StagedBody::new(Body::wrap(StreamBody::new(pieces)), feed);
        let (begun, mut passed) = (Instant::now(), 0);
        while let Some(frame) = body.frame().await {
            passed += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        assert_eq!((passed, begun.elapsed()), (100 * PIECE, PATIENCE));
        drop(body);
        assert!(disk.await.unwrap() < 10);
    }
}
