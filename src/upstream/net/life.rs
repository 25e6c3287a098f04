//! Keeps what is known of one connection: its age, whether it brings anything, and how many streams its peer serves.
//!
//! Shared by the connection's stream, which writes it down, and by the requests on it, which decide by it: whether the
//! peer still hears, and whether a request would wait behind others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use http::Extensions;
use hyper_util::client::legacy::connect::Connected;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// A connection's life. Rides along with it and with its answers and errors; clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) born: Instant,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    has_answered: AtomicBool,
    /// How often it has brought bytes.
    reads: AtomicU64,
    /// How many exchanges are under way on it.
    under_way: AtomicUsize,
    /// How many there were at most.
    peak: AtomicUsize,
    /// How many streams its peer serves at a time; `None` until it has said so.
    limit: watch::Sender<Option<usize>>,
    interim: Notify,
}

/// An exchange's place on a connection that others share, until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    life: Life,
    /// The first one is 1.
    position: usize,
    limit: Option<usize>,
}

impl Life {
    /// `is_shared`: many exchanges at a time, as many as its peer says.
    pub(crate) fn new(is_shared: bool) -> Self {
        let limit = watch::Sender::new((!is_shared).then_some(usize::MAX));
        let inner = Inner {
            has_answered: AtomicBool::default(),
            reads: AtomicU64::default(),
            under_way: AtomicUsize::default(),
            peak: AtomicUsize::default(),
            limit,
            interim: Notify::new(),
        };
        Self { born: Instant::now(), inner: Arc::new(inner) }
    }

    /// That of a connection.
    pub(crate) fn of(connection: &Connected) -> Option<Self> {
        let mut extras = Extensions::new();
        connection.get_extras(&mut extras);
        extras.remove()
    }

    /// It has brought an answer.
    pub(crate) fn mark(&self) {
        self.inner.has_answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.inner.has_answered.load(Ordering::Relaxed)
    }

    /// It has brought bytes.
    pub(crate) fn hear(&self) {
        self.inner.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has brought bytes.
    pub(crate) fn heard(&self) -> u64 {
        self.inner.reads.load(Ordering::Relaxed)
    }

    /// It has brought an interim answer, over HTTP/2 to nobody knows which exchange.
    pub(crate) fn tell_interim(&self) {
        self.inner.interim.notify_waiters();
    }

    /// Ends when it brings the next one. Cancel-safe.
    pub(crate) async fn interim(&self) {
        self.inner.interim.notified().await;
    }

    /// Its peer serves so many streams at a time from now on.
    pub(crate) fn serves(&self, streams: usize) {
        self.inner.limit.send_replace(Some(streams));
    }

    /// Whether it has served, or was to serve, more than the one exchange that failed on it.
    pub(crate) fn has_served(&self) -> bool {
        self.is_marked() || self.inner.peak.load(Ordering::Relaxed) > 1
    }

    /// One more exchange on it.
    pub(crate) fn enter(&self) -> StreamPlace {
        let position = self.inner.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.inner.peak.fetch_max(position, Ordering::Relaxed);
        StreamPlace { life: self.clone(), position, limit: *self.inner.limit.borrow() }
    }
}

impl StreamPlace {
    /// Whether it should go elsewhere: it would wait for another one's end, or is a download that leaves no room for what is
    /// quickly answered. Nothing of it was sent in the first case.
    pub(crate) fn is_crowded(&self, is_download: bool) -> bool {
        self.limit.is_some_and(|limit| self.position > if is_download { limit / 2 } else { limit })
    }

    /// Ends when the peer's first word is that it serves fewer streams than are before this one: it waits for them, or is
    /// refused. Cancel-safe.
    pub(crate) async fn left_out(&self) {
        if self.limit.is_none() && self.position > 1 {
            let mut limit = self.life.inner.limit.subscribe();
            let said = limit.wait_for(Option::is_some).await;
            if said.is_ok_and(|limit| limit.is_some_and(|limit| self.position > limit)) {
                return;
            }
        }
        std::future::pending().await
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.life.inner.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_leave_room_and_what_would_wait_goes_elsewhere() {
        for (limit, rest, downloads) in [(1, 1, 0), (2, 2, 1), (3, 3, 1), (100, 100, 50), (0, 0, 0)] {
            let life = Life::new(true);
            life.serves(limit);
            let streams: Vec<StreamPlace> = (0..120).map(|_| life.enter()).collect();
            let stay = |is_download| streams.iter().filter(|stream| !stream.is_crowded(is_download)).count();
            assert_eq!((stay(false), stay(true)), (rest, downloads), "{limit}");
            life.serves(1);
            assert_eq!(stay(false), rest, "what was sent stays: {limit}");
            drop(streams);
            assert!(life.enter().is_crowded(true) && !life.enter().is_crowded(false));
        }
        let alone = Life::new(false);
        assert!(!alone.enter().is_crowded(true));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_peers_first_word_is_left_out_by_it_or_stays() {
        use futures_util::FutureExt;
        for (limit, left_out) in [(1, [false, true, true]), (2, [false, false, true]), (100, [false; 3])] {
            let life = Life::new(true);
            let streams = [life.enter(), life.enter(), life.enter()];
            assert!(streams.iter().all(|stream| stream.left_out().now_or_never().is_none()));
            life.serves(limit);
            let found = streams.each_ref().map(|stream| stream.left_out().now_or_never().is_some());
            assert_eq!(found, left_out, "{limit}");
        }
    }
}
