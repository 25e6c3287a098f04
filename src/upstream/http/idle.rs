//! Watches an answer's body: one that falls silent ends in an error.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::oci::Authority;
use crate::upstream::Error;
use crate::upstream::error::Broken;

/// A body that brings less than this while it is waited for so many times the limit is as good as silent.
const LEAST: u64 = 1 << 10;
const LIMITS: u32 = 4;

/// The stream was reset before its end.
#[derive(Debug, thiserror::Error)]
#[error("the answer ended early")]
struct Cut;

/// What an answer's body has to do to be read on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyPace {
    /// It brings something within so long, or ends with [`Error::Idle`].
    pub(crate) idle: Duration,
    /// It brings more than next to nothing in several times as long, or ends with [`Error::Trickle`]: it may be asked for
    /// again, and its connection may be all that ails it.
    pub(crate) brisk: bool,
    /// Its end shows by `is_end_stream`, and has to.
    pub(crate) ends: bool,
}

/// An answer's body that keeps its pace, or ends in an error.
///
/// Time counts only while a reader waits: a reader that comes late finds bytes, not an error.
pub(crate) struct Watched<B> {
    body: B,
    from: Authority,
    pace: BodyPace,
    timer: Pin<Box<Sleep>>,
    /// Since when a reader has waited for the next byte.
    waiting: Option<Instant>,
    /// How long readers have waited, and for how many bytes, since there were enough last.
    waited: Duration,
    brought: u64,
}

impl<B> Watched<B> {
    pub(crate) fn new(body: B, from: Authority, pace: BodyPace) -> Self {
        let (timer, waited) = (Box::pin(sleep_until(Instant::now())), Duration::ZERO);
        Self { body, from, pace, timer, waiting: None, waited, brought: 0 }
    }

    /// Since when a reader waits in vain.
    fn waits(&mut self) {
        if self.waiting.is_none() {
            let now = Instant::now();
            let left =
                if self.pace.brisk { (LIMITS * self.pace.idle).saturating_sub(self.waited) } else { Duration::MAX };
            self.timer.as_mut().reset(now + self.pace.idle.min(left));
            self.waiting = Some(now);
        }
    }

    fn came(&mut self, bytes: u64) {
        self.waited += self.waiting.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.brought += bytes;
        if self.brought >= LEAST {
            (self.waited, self.brought) = (Duration::ZERO, 0);
        }
    }

    fn is_late(&self) -> bool {
        self.waiting.is_some() && self.timer.deadline() <= Instant::now()
    }

    fn too_late(&self) -> Broken {
        let (to, idle) = (self.from.clone(), self.pace.idle);
        Broken(match self.waiting {
            Some(since) if since.elapsed() < idle => Error::Trickle { to, least: LEAST, after: LIMITS * idle },
            _ => Error::Idle { to, after: idle },
        })
    }

    fn broken(&self, source: impl std::error::Error + Send + Sync + 'static) -> Broken {
        Broken(Error::Exchange { to: self.from.clone(), source: Arc::new(source) })
    }
}

impl<B> HttpBody for Watched<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            match data.map(|data| data.len() as u64) {
                // A frame without a byte is silence (HTTP/2 has them).
                Some(0) if this.is_late() => return Poll::Ready(Some(Err(this.too_late()))),
                Some(0) => {}
                bytes => this.came(bytes.unwrap_or_default()),
            }
            if frame.is_none() && this.pace.ends && !this.body.is_end_stream() {
                this.pace.ends = false;
                return Poll::Ready(Some(Err(this.broken(Cut))));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| this.broken(error))));
        }
        this.waits();
        this.timer.as_mut().poll(cx).map(|()| Some(Err(this.too_late())))
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
    use std::convert::Infallible;

    use futures_util::stream::unfold;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::sleep;

    use super::*;

    /// A piece after each of these pauses, in seconds; then nothing, for ever.
    fn paced(pauses: &'static [u64], brisk: bool) -> Watched<impl HttpBody<Data = Bytes, Error = Infallible> + Unpin> {
        let from = Authority::parse("quay.io", 443).unwrap();
        let pace = BodyPace { idle: Duration::from_secs(30), brisk, ends: false };
        let stream = unfold(pauses.iter(), |mut pauses| async {
            match pauses.next() {
                Some(pause) => sleep(Duration::from_secs(*pause)).await,
                None => std::future::pending().await,
            }
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), pauses))
        });
        Watched::new(StreamBody::new(Box::pin(stream)), from, pace)
    }

    #[tokio::test(start_paused = true)]
    async fn only_silence_ends_a_body() {
        let start = Instant::now();
        let mut body = paced(&[29, 29, 0, 29], true);
        for _ in 0..4 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(matches!(error.0, Error::Idle { .. }));
        assert_eq!(start.elapsed().as_secs(), 29 * 3 + 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_no_silence() {
        let mut body = paced(&[1, 1, 1], true);
        for _ in 0..3 {
            sleep(Duration::from_secs(100)).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_where_it_can_be_asked_for_again() {
        for (brisk, expected) in [(true, 6), (false, 50)] {
            let start = Instant::now();
            let mut body = paced(&[20; 50], brisk);
            let mut pieces = 0;
            let error = loop {
                match body.frame().await.unwrap() {
                    Ok(_) => pieces += 1,
                    Err(error) => break error,
                }
            };
            // Six pieces in two minutes; or all of them, and then silence.
            assert_eq!((pieces, start.elapsed().as_secs()), (expected, if brisk { 120 } else { 50 * 20 + 30 }));
            assert_eq!(matches!(error.0, Error::Trickle { .. }), brisk);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_brings_enough_now_and_then_does_not_trickle() {
        let stream = unfold((), |()| async {
            sleep(Duration::from_secs(25)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 300]))), ()))
        });
        let pace = BodyPace { idle: Duration::from_secs(30), brisk: true, ends: false };
        let mut body = Watched::new(StreamBody::new(Box::pin(stream)), Authority::parse("quay.io", 443).unwrap(), pace);
        for _ in 0..100 {
            assert!(body.frame().await.unwrap().is_ok());
        }
    }
}
