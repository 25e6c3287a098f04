//! Counts one request from its head until the last byte of its answer has left this process.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use http::{Method, Request};

use super::exceeded::Exceeded;
use super::traffic::Traffic;
use super::usage::{Tunnel, Usage};
use crate::host::{BUFFERS, Buffers};
use crate::oci::Digest;

/// A smaller piece is bounded by the number of streams, if it is the only one of its own that is under way.
const COUNTED: usize = 4 << 10;
/// The memory that a piece takes besides its bytes, here and in the connection.
const PIECE: usize = 256;

/// A stream; its share of the limits is given back when it and the last of its pieces are dropped.
pub(crate) struct Stream {
    owner: Owner,
    is_counted: AtomicBool,
    blob: OnceLock<Digest>,
    tunnel: OnceLock<Tunnel>,
    /// Bytes that the connection holds.
    under_way: AtomicUsize,
    /// Woken when some of them are gone, if somebody waits for that.
    gone: AtomicWaker,
    is_awaited: AtomicBool,
    pub(crate) of: Option<StreamSlot>,
}

/// The connection that it is on: alone, or as one of several streams of HTTP/2.
pub(crate) enum Owner {
    #[cfg(test)]
    Usage(Arc<Usage>),
    Alone(Arc<Traffic>),
    Connection(Arc<Traffic>),
}

/// Its place on a connection of HTTP/2.
pub(crate) struct StreamSlot {
    pub(crate) number: u64,
    pub(crate) slot: usize,
    /// The task that answers it, and whether that has come to its end.
    pub(crate) answering: AtomicWaker,
    pub(crate) is_answered: AtomicBool,
    pub(crate) is_given_up: AtomicBool,
    /// When its client took something last, in milliseconds of the sweep; how much had passed over the connection by
    /// then, and how many streams it had had.
    pub(crate) last: AtomicU64,
    pub(crate) passed: AtomicU64,
    pub(crate) opened: AtomicU64,
}

/// A piece of its answer on the way to the client.
pub(crate) struct Piece {
    bytes: Bytes,
    length: usize,
    counted: usize,
    stream: Arc<Stream>,
}

impl Stream {
    #[cfg(test)]
    pub(crate) fn new(client: Arc<Usage>) -> Arc<Self> {
        Self::on(Owner::Usage(client), None)
    }

    pub(crate) fn on(owner: Owner, of: Option<StreamSlot>) -> Arc<Self> {
        Arc::new(Self {
            owner,
            is_counted: false.into(),
            blob: OnceLock::new(),
            tunnel: OnceLock::new(),
            under_way: 0.into(),
            gone: AtomicWaker::new(),
            is_awaited: false.into(),
            of,
        })
    }

    fn client(&self) -> &Usage {
        match &self.owner {
            #[cfg(test)]
            Owner::Usage(client) => client,
            Owner::Alone(traffic) | Owner::Connection(traffic) => &traffic.client,
        }
    }

    /// Checks whether this request may begin. From here on it counts.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<(), Exceeded> {
        self.client().begin()?;
        self.is_counted.store(true, Ordering::Relaxed);
        if let Some(blob) = blob_of(request) {
            self.client().open(&blob)?;
            let _ = self.blob.set(blob); // a stream is admitted once
        }
        Ok(())
    }

    /// Its answer comes over this connection, which counts until it has ended.
    pub(crate) fn keep(&self, tunnel: Tunnel) {
        let _ = self.tunnel.set(tunnel); // a stream has one answer
    }

    /// A piece of its answer.
    pub(crate) fn piece(self: &Arc<Self>, bytes: Bytes) -> Piece {
        let length = bytes.len();
        let before = self.under_way.fetch_add(length, Ordering::SeqCst);
        let counted = if length >= COUNTED || before > 0 { length + PIECE } else { 0 };
        if counted > 0 {
            BUFFERS.hold(counted);
            self.client().buffered.fetch_add(counted, Ordering::Relaxed);
        }
        Piece { bytes, length, counted, stream: self.clone() }
    }

    /// Waits until another piece may be made: while there are too many bytes in buffers, only when none of its own is
    /// under way. Its client's taking ends the wait, so nobody waits for another one's client.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let is_full = || BUFFERS.are_full() || self.client().holds_its_share();
        self.poll_gone(cx, || self.under_way() > 0 && is_full())
    }

    /// Waits until no more than a little of it is under way.
    pub(crate) fn poll_little(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_gone(cx, || !self.has_little())
    }

    pub(crate) fn has_little(&self) -> bool {
        self.under_way() <= Buffers::LEAST
    }

    fn poll_gone(&self, cx: &Context<'_>, waits: impl Fn() -> bool) -> Poll<()> {
        if !waits() {
            return Poll::Ready(());
        }
        self.is_awaited.store(true, Ordering::SeqCst);
        self.gone.register(cx.waker());
        if waits() { Poll::Pending } else { Poll::Ready(()) } // the last piece may have gone in between
    }

    /// Bytes that its client has not taken yet.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// Runs `future`, which answers it, until it ends or the stream is given up.
    pub(crate) async fn answered_by(self: Arc<Self>, future: impl Future<Output = ()>) {
        let mut future = pin!(future);
        let Some(place) = &self.of else { return future.await };
        std::future::poll_fn(|cx| {
            place.answering.register(cx.waker());
            if place.is_given_up.load(Ordering::SeqCst) { Poll::Ready(()) } else { future.as_mut().poll(cx) }
        })
        .await;
        place.is_answered.store(true, Ordering::SeqCst);
    }

    /// Ends the task that answers it, which resets it; whether that was still to be had.
    pub(crate) fn give_up(&self) -> bool {
        let Some(place) = &self.of else { return false };
        place.is_given_up.store(true, Ordering::SeqCst);
        place.answering.wake();
        !place.is_answered.load(Ordering::SeqCst)
    }

    /// How long its client has taken nothing.
    pub(crate) fn idle(&self, now: Duration) -> Duration {
        let last = self.of.as_ref().map_or(0, |place| place.last.load(Ordering::Relaxed));
        now.saturating_sub(Duration::from_millis(last))
    }

    /// The connection took so many bytes from it.
    fn took(&self, bytes: usize) {
        if let (Some(place), Owner::Connection(traffic)) = (&self.of, &self.owner) {
            let (passed, now) = traffic.took(place.number, bytes as u64);
            place.last.store(now, Ordering::Relaxed);
            place.passed.store(passed, Ordering::Relaxed);
            place.opened.store(traffic.opened(), Ordering::Relaxed);
        }
    }

    fn let_go(&self, length: usize, counted: usize) {
        if counted > 0 {
            BUFFERS.release(counted);
            self.client().buffered.fetch_sub(counted, Ordering::Relaxed);
        }
        // Either this sees a waiter, or the waiter sees that it is gone.
        self.under_way.fetch_sub(length, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) {
            self.gone.wake();
        }
    }
}

/// The blob that a request reads, by its path alone. One that is written in another way is no blob's.
fn blob_of<B>(request: &Request<B>) -> Option<Digest> {
    if *request.method() != Method::GET {
        return None;
    }
    request.uri().path().rsplit_once("/blobs/")?.1.parse().ok()
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(blob) = self.blob.get() {
            self.client().closed(blob);
        }
        if let (Some(place), Owner::Connection(traffic)) = (&self.of, &self.owner) {
            traffic.give_back(place.slot);
        }
        if self.is_counted.load(Ordering::Relaxed) {
            self.client().leave();
        }
        if let Owner::Alone(traffic) = &self.owner {
            traffic.leave_alone();
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.stream.took(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.stream.let_go(self.length, self.counted);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;
    use crate::proxy::limit::limiter::tests::limits;
    use crate::proxy::limit::{Limiter, Limits};

    fn get(path: &str) -> Request<()> {
        Request::builder().uri(path).body(()).unwrap()
    }

    #[test]
    fn a_stream_counts_until_the_last_of_its_bytes_is_gone() {
        let clients = Limiter::new(Limits { streams_each: 1, ..limits() });
        let client = clients.of([10, 0, 0, 1].into());
        let stream = Stream::new(client.clone());
        stream.admit(&get("/v2/a/manifests/x")).unwrap();
        let mut piece = stream.piece(Bytes::from_static(b"hello"));
        assert!(Stream::new(client.clone()).admit(&get("/")).is_err());
        drop(stream);
        assert!(Stream::new(client.clone()).admit(&get("/")).is_err(), "a byte of it lies with the connection");
        piece.advance(5);
        drop(piece);
        assert!(Stream::new(client).admit(&get("/")).is_ok());
    }

    #[test]
    fn who_holds_its_share_of_the_buffers_has_one_piece_under_way_at_a_time() {
        let clients = Limiter::new(Limits { buffers_each: 2 * COUNTED, ..limits() });
        let client = clients.of([10, 0, 0, 1].into());
        let (one, two) = (Stream::new(client.clone()), Stream::new(client));
        let waker = noop_waker();
        let cx = Context::from_waker(&waker);
        let first = one.piece(Bytes::from(vec![0; COUNTED]));
        assert!(one.poll_room(&cx).is_ready());
        let second = one.piece(Bytes::from(vec![0; COUNTED]));
        assert!(one.poll_room(&cx).is_pending());
        assert!(two.poll_room(&cx).is_ready(), "it has none under way");
        drop(second);
        assert!(one.poll_room(&cx).is_ready());
        drop(first);
        assert_eq!(one.client().buffered.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn small_pieces_count_as_soon_as_there_are_several() {
        let clients = Limiter::new(limits());
        let stream = Stream::new(clients.of([10, 0, 0, 1].into()));
        let held = || stream.client().buffered.load(Ordering::Relaxed);
        let first = stream.piece(Bytes::from_static(b"x"));
        assert_eq!(held(), 0);
        let more: Vec<_> = (0..1000).map(|_| stream.piece(Bytes::from_static(b"x"))).collect();
        assert_eq!(held(), 1000 * (1 + PIECE));
        drop((first, more));
        assert_eq!(held(), 0);
    }

    #[test]
    fn only_a_get_of_a_blob_reads_one() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert!(blob_of(&get(&format!("/v2/a/b/blobs/{digest}"))).is_some());
        for path in [format!("/v2/a/manifests/{digest}"), "/v2/a/blobs/uploads/".to_owned(), "/".to_owned()] {
            assert!(blob_of(&get(&path)).is_none(), "{path}");
        }
    }
}
