//! Bodies under watch: an answer that falls silent ends in an error, a request that moves on is not late.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Error;
use super::error::Broken;
use crate::oci::Authority;
use crate::wire::{Body, BodyError};

/// An answer's body that ends with [`Error::Idle`] when the upstream brings nothing for `limit`.
///
/// Time counts only while a reader waits: a reader that comes late finds bytes, not an error.
pub(super) struct Watched<B> {
    body: B,
    from: Authority,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<B> Watched<B> {
    pub(super) fn new(body: B, from: Authority, limit: Duration) -> Self {
        Self { body, from, limit, timer: Box::pin(sleep_until(Instant::now())), waiting: false }
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
            this.waiting = false;
            let from = &this.from;
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|error| Broken(Error::Exchange { to: from.clone(), source: Arc::new(error) }))
            }));
        }
        if !this.waiting {
            this.waiting = true;
            this.timer.as_mut().reset(Instant::now() + this.limit);
        }
        this.timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(Broken(Error::Idle { to: this.from.clone(), after: this.limit }))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What became of a request's body so far.
pub(super) struct Progress {
    /// How many pieces were taken from it.
    pub(super) moved: AtomicU64,
    /// Whether it failed on our side.
    pub(super) broken: AtomicBool,
}

/// A request's body that tells its progress, so that a long upload is told from a silent upstream.
///
/// Threat: a client that begins an upload and says no more holds a connection to the registry, and its silence would be
/// taken for the registry's. Defence: it ends after [`SILENCE`] of its own silence.
pub(super) struct Counted {
    body: Body,
    progress: Arc<Progress>,
    /// Runs while the client is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

/// How long a client may send nothing of a body that it has begun.
const SILENCE: Duration = Duration::from_secs(60);

/// The client has sent nothing for so long.
#[derive(Debug, thiserror::Error)]
#[error("the client sent nothing more of its request for {} s", SILENCE.as_secs())]
struct Silent;

impl Counted {
    pub(super) fn new(body: Body, progress: Arc<Progress>) -> Self {
        Self { body, progress, timer: None }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.timer = None;
                frame
            }
            Poll::Pending => {
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
                ready!(timer.as_mut().poll(cx));
                Some(Err(BodyError::new(Silent)))
            }
        };
        self.progress.moved.fetch_add(1, Ordering::Relaxed);
        if let Some(Err(_)) = &polled {
            self.progress.broken.store(true, Ordering::Relaxed);
        }
        Poll::Ready(polled)
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
    fn paced(pauses: &'static [u64]) -> Watched<impl HttpBody<Data = Bytes, Error = Infallible> + Unpin> {
        let from = Authority::parse("quay.io", 443).unwrap();
        Watched::new(paced_body(pauses), from, Duration::from_secs(30))
    }

    fn paced_body(pauses: &'static [u64]) -> impl HttpBody<Data = Bytes, Error = Infallible> + Unpin + Send {
        let stream = unfold(pauses.iter(), |mut pauses| async {
            match pauses.next() {
                Some(pause) => sleep(Duration::from_secs(*pause)).await,
                None => std::future::pending().await,
            }
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), pauses))
        });
        StreamBody::new(Box::pin(stream))
    }

    #[tokio::test(start_paused = true)]
    async fn only_silence_ends_a_body() {
        let start = Instant::now();
        let mut body = paced(&[29, 29, 0, 29]);
        for _ in 0..4 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(matches!(error.0, Error::Idle { .. }));
        assert_eq!(start.elapsed().as_secs(), 29 * 3 + 30);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_whose_client_falls_silent_ends_and_a_slow_one_does_not() {
        for (pauses, comes) in [(&[59, 59, 0, 59][..], 4), (&[1, 61], 1)] {
            let progress = Arc::new(Progress { moved: AtomicU64::new(0), broken: AtomicBool::new(false) });
            let mut upload = Counted::new(Body::wrap(paced_body(pauses)), progress.clone());
            let mut pieces = 0;
            while let Some(Ok(_)) = upload.frame().await {
                pieces += 1;
            }
            assert_eq!(pieces, comes, "{pauses:?}");
            assert!(progress.broken.load(Ordering::Relaxed), "by its client");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_no_silence() {
        let mut body = paced(&[1, 1, 1]);
        for _ in 0..3 {
            sleep(Duration::from_secs(100)).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
    }
}
