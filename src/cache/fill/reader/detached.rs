//! Continues a reader by an upstream request of its own, when the disk takes no more of its fill.
//!
//! A reader of the whole is verified all the same: what it has had is hashed from the file, the rest as it
//! comes, and its last bytes stay back until the digest matched.

use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::hashing::{self, ContentHash};
use super::waiter::Waiter;
use crate::cache::fill::backoff::{Plea, Retries};
use crate::cache::fill::transfer::shape::{Shape, Shapes};
use crate::cache::mismatch::Mismatch;
use crate::cache::{Fault, FaultKind, Retry, Want};

/// Pieces that may wait for the connection.
const AHEAD: usize = 4;

/// The rest of a content, from upstream.
pub(crate) struct Detached(mpsc::Receiver<Result<Bytes, Fault>>);

/// The upstream ended early.
#[derive(Debug, thiserror::Error)]
#[error("the upstream ended at byte {0}")]
struct TooLittle(u64);

impl Detached {
    /// Goes on at `at`, up to `end` if it is known. With `hold` it is a whole that is read.
    pub(crate) fn begin(waiter: &Waiter, at: u64, end: Option<u64>, hold: bool) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let detaching = Detaching { waiter: waiter.clone(), at, end, hash: None, held: Bytes::new(), sender };
        // To its end also at a stop: a reader whose rest were dropped would take what it had for the whole.
        waiter.fill().tasks().spawn(async move {
            let sender = detaching.sender.clone();
            if let Err(Stop::Fault(fault)) = detaching.run(hold).await {
                let _ = sender.send(Err(fault)).await; // a reader that has left is fine
            }
        });
        Self(receiver)
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        self.0.poll_recv(cx)
    }
}

struct Detaching {
    waiter: Waiter,
    at: u64,
    end: Option<u64>,
    hash: Option<ContentHash>,
    held: Bytes,
    sender: mpsc::Sender<Result<Bytes, Fault>>,
}

enum Stop {
    Fault(Fault),
    /// The reader has left.
    Left,
}

impl Detaching {
    async fn run(mut self, hold: bool) -> Result<(), Stop> {
        let fill = self.waiter.fill().clone();
        if hold {
            let hash = ContentHash::new(fill.digest().algorithm());
            self.hash = Some(hashing::take(hash, &fill, 0, self.at).await.map_err(Stop::Fault)?);
        }
        let (mut retries, mut shapes) = (Retries::default(), Shapes::default());
        let mut way = 0;
        let left = self.sender.clone();
        while self.end.is_none_or(|end| self.at < end) {
            let (before, shape) = (self.at, shapes.next(self.end.is_some()));
            let fetched = tokio::select! {
                biased; // nothing is asked for who has left
                () = left.closed() => return Err(Stop::Left),
                fetched = self.fetch(way, shape) => fetched,
            };
            let fault = match fetched {
                Ok(()) => continue,
                Err(Stop::Left) => return Err(Stop::Left),
                Err(Stop::Fault(fault)) => fault,
            };
            let is_throttle = fault.kind == FaultKind::Throttle;
            retries.broke_off(self.at - before, Plea { is_throttle, retry_after: fault.retry_after });
            shapes.ended(shape, before, self.at - before, &fault);
            way += 1;
            let is_final = fault.retry == Retry::Never && !is_throttle;
            if is_final || retries.is_exhausted(self.at) {
                return Err(Stop::Fault(fault));
            }
            if let Some(until) = retries.until() {
                tokio::time::sleep_until(until).await;
            }
        }
        if let Some(hash) = self.hash.take() {
            let (wanted, (found, _)) = (*fill.digest(), hash.finish());
            if wanted != found {
                return Err(Stop::Fault(Fault::new(Retry::Never, Mismatch { wanted, found })));
            }
        }
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { Ok(()) } else { self.send(held).await }
    }

    /// Asks for the rest and passes on what comes of it.
    async fn fetch(&mut self, way: usize, shape: Shape) -> Result<(), Stop> {
        let origins = self.waiter.caller().origins;
        let (from, to) = if shape.is_whole() { (0, None) } else { (self.at, self.end) };
        let to = to.filter(|_| shape == Shape::Part);
        let want = Want { from, to, way, origins, ..Want::default() };
        let flow = self.waiter.caller().source.open(self.waiter.digest(), want).await.map_err(Stop::Fault)?;
        self.end = self.end.or(flow.total);
        let mut skip = self.at.saturating_sub(flow.at);
        let mut body = flow.body;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|cause| Stop::Fault(Fault::new(Retry::Again, cause)))?;
            let Ok(mut bytes) = frame.into_data() else { continue };
            let left_out = skip.min(bytes.len() as u64);
            bytes.advance(usize::try_from(left_out).unwrap_or(usize::MAX));
            skip -= left_out;
            if let Some(end) = self.end {
                bytes.truncate(usize::try_from(end - self.at).unwrap_or(usize::MAX));
            }
            if !bytes.is_empty() {
                self.pass(bytes).await?;
            }
            if self.end == Some(self.at) {
                return Ok(());
            }
        }
        match self.end {
            Some(_) => Err(Stop::Fault(Fault::new(Retry::Again, TooLittle(self.at)))),
            None => {
                self.end = Some(self.at);
                Ok(())
            }
        }
    }

    /// Of a whole, the latest piece stays back.
    async fn pass(&mut self, bytes: Bytes) -> Result<(), Stop> {
        self.at += bytes.len() as u64;
        let ready = match &mut self.hash {
            None => bytes,
            Some(hash) => {
                hash.update(&bytes);
                std::mem::replace(&mut self.held, bytes)
            }
        };
        if ready.is_empty() { Ok(()) } else { self.send(ready).await }
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Stop> {
        self.sender.send(Ok(bytes)).await.map_err(|_| Stop::Left)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::cache::fill::endpoints::Endpoints;
    use crate::cache::fill::fill::Fill;
    use crate::cache::fill::sources::FillSource;
    use crate::cache::{Caller, Flow, Origins, Place, Principal, Proof, Source, Subject, Trust, Whole};
    use crate::host::{Percent, Size, TaskGroup};
    use crate::oci::{Algorithm, Digest};
    use crate::store::{self, Store};
    use crate::wire::Body;

    /// Answers whatever is asked with a single byte.
    #[derive(Clone)]
    struct Miser {
        /// Whether that is the byte asked for, or the first one.
        is_right: bool,
        asked: Arc<AtomicUsize>,
    }

    impl Source for Miser {
        fn decides(&self) -> bool {
            true
        }

        fn open<'a>(&'a self, _: &'a Digest, want: Want) -> BoxFuture<'a, Result<Flow, Fault>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let at = if self.is_right { want.from } else { 0 };
            let (to, total, body) = (Some(at + 1), Some(1000), Body::full("x"));
            let flow = Flow {
                at,
                to,
                total,
                ranges: Some(true),
                is_coded: false,
                is_open_ended: false,
                validator: None,
                endpoint: None,
                proof: Proof::default(),
                body,
            };
            Box::pin(std::future::ready(Ok(flow)))
        }

        fn prove<'a>(&'a self, _: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>> {
            Box::pin(std::future::pending())
        }

        fn whole<'a>(&'a self, _: &'a Subject, _: Origins) -> BoxFuture<'a, Result<Whole, Fault>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_on_its_own_asks_no_miser_for_ever_and_nobody_once_it_has_left() {
        for (is_right, leaves, most) in [(false, false, 8), (true, false, 24), (false, true, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let config =
                store::Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
            let store = Store::open(&config).unwrap();
            let miser = Miser { is_right, asked: Arc::default() };
            let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
            let (principal, source) = (Principal::Anonymous, Arc::new(miser.clone()));
            let caller = Caller::new(place, principal, source, Trust::default());
            let staged = store.stage_from(&Digest::of(Algorithm::Sha256, b"x"), "quay.io").unwrap();
            let fill = Arc::new(Fill::new(staged, FillSource::of(&caller), Endpoints::default(), TaskGroup::new()));
            let waiter = Waiter::of(&fill, &caller).unwrap();
            let mut detached = Detached::begin(&waiter, 10, Some(1000), false);
            if leaves {
                tokio::task::yield_now().await;
                drop(detached);
                tokio::time::sleep(std::time::Duration::from_secs(600)).await;
            } else {
                while let Some(Ok(_)) = std::future::poll_fn(|cx| detached.poll(cx)).await {}
            }
            assert_eq!(miser.asked.load(Ordering::SeqCst), most, "right {is_right}, leaves {leaves}");
        }
    }
}
