//! Watches a request's body: whether it moves on, and which side is waited for where it does not.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::wire::{Body, BodyError};

/// How long a client may send nothing of a body that it has begun.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// The client has sent nothing for so long.
#[derive(Debug, thiserror::Error)]
#[error("the client sent nothing more of its request for {} s", SILENCE.as_secs())]
struct Silent;

/// What became of a request's body so far. One that there is none of is with the upstream from the beginning.
#[derive(Debug, Default)]
pub(crate) struct UploadProgress {
    /// How many pieces were taken from it.
    moved: AtomicU64,
    state: AtomicU8,
}

/// Who is to do something about a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum UploadState {
    /// The upstream: it has all of it, or does not take what there is.
    Upstream = 0,
    /// The client: it has not sent the next piece yet.
    Client,
    /// Nobody: it failed on the client's side.
    Broken,
    /// Nobody: the client was waited for in vain.
    Silent,
}

impl UploadProgress {
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(crate) fn state(&self) -> UploadState {
        let state = self.state.load(Ordering::Relaxed);
        let known = [UploadState::Client, UploadState::Broken, UploadState::Silent];
        known.into_iter().find(|known| *known as u8 == state).unwrap_or(UploadState::Upstream)
    }

    pub(crate) fn is(&self, state: UploadState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

/// A request's body that tells its progress, so that a long upload is told from a silent upstream.
///
/// Threat: a client that begins an upload and says no more holds a connection to the registry, and its silence would be
/// taken for the registry's. Defence: while it is waited for, the upstream's time does not run, and it ends after
/// [`SILENCE`] of its own silence. The protocol asks for the next piece only where there is room for it towards the
/// upstream, so one that does not read is not mistaken for a silent client.
pub(crate) struct Counted {
    body: Body,
    progress: Arc<UploadProgress>,
    /// Runs while the client is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    pub(crate) fn new(body: Body, progress: Arc<UploadProgress>) -> Self {
        Self { body, progress, timer: None }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (polled, state) = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => (Some(Err(error)), UploadState::Broken),
            Poll::Ready(frame) => (frame, UploadState::Upstream),
            Poll::Pending => {
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(SILENCE)));
                if timer.as_mut().poll(cx).is_pending() {
                    self.progress.is(UploadState::Client);
                    return Poll::Pending;
                }
                (Some(Err(BodyError::new(Silent))), UploadState::Silent)
            }
        };
        self.timer = None;
        self.progress.moved.fetch_add(1, Ordering::Relaxed);
        self.progress.is(state);
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

    use super::*;

    /// A piece after each of these pauses, in seconds; then nothing, for ever.
    fn paced(pauses: &'static [u64], progress: &Arc<UploadProgress>) -> Counted {
        let stream = unfold(pauses.iter(), |mut pauses| async {
            match pauses.next() {
                Some(pause) => sleep(Duration::from_secs(*pause)).await,
                None => std::future::pending().await,
            }
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), pauses))
        });
        Counted::new(Body::wrap(StreamBody::new(Box::pin(stream))), progress.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_whose_client_falls_silent_ends_and_a_slow_one_does_not() {
        for (pauses, comes) in [(&[59, 59, 0, 59][..], 4), (&[1, 61], 1), (&[], 0)] {
            let progress = Arc::new(UploadProgress::default());
            let mut upload = paced(pauses, &progress);
            let mut pieces = 0;
            while let Some(Ok(_)) = upload.frame().await {
                pieces += 1;
            }
            assert_eq!((pieces, progress.moved()), (comes, comes + 1), "{pauses:?}");
            assert_eq!(progress.state(), UploadState::Silent, "{pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_who_is_waited_for() {
        let progress = Arc::new(UploadProgress::default());
        let mut upload = paced(&[0, 30], &progress);
        assert_eq!(progress.state(), UploadState::Upstream, "which does not take what there may be");
        upload.frame().await.unwrap().unwrap();
        assert_eq!(progress.state(), UploadState::Upstream);
        assert!(tokio::time::timeout(Duration::from_secs(1), upload.frame()).await.is_err());
        assert_eq!(progress.state(), UploadState::Client);
        upload.frame().await.unwrap().unwrap();
        assert_eq!(progress.state(), UploadState::Upstream);
    }
}
