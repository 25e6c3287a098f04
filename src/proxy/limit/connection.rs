//! One connection and the streams on it, which in HTTP/2 are several: who of them moves, and how one that does not is ended.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::limiter::Limiter;
use super::shared::Shared;
use super::stream::{Owner, Place, Stream};
use super::usage::Usage;
use crate::host::Count;

/// A connection.
pub(crate) struct Connection {
    pub(crate) client: Arc<Usage>,
    opened: AtomicU64,
    /// The latest stream that took something. This and what follows only the connection's own task writes.
    newest: AtomicU64,
    /// Bytes of answers that it took, and when it took some last.
    passed: AtomicU64,
    last: AtomicU64,
    /// Whether its peer takes nothing at the moment: then the system says whether it is alive.
    blocked: Arc<AtomicBool>,
    streams: Mutex<List>,
    /// Requests under way that are alone on it, as in HTTP/1.1.
    pub(crate) alone: Count,
    /// What it was told, and the task that is to hear it.
    order: AtomicU8,
    told: AtomicWaker,
}

/// What a connection may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Take no new streams.
    Finish = 1,
    /// End.
    Close = 2,
}

#[derive(Default)]
struct List {
    slots: Vec<Option<Weak<Stream>>>,
    free: Vec<usize>,
    /// The stream whose task comes next: hyper starts it right after the request was handed over.
    next: Option<Arc<Stream>>,
}

impl Connection {
    /// A connection of `client`, which is looked after until it is dropped. `blocked` is true while nothing can be
    /// written to it.
    pub(crate) fn new(clients: &Limiter, client: Arc<Usage>, blocked: Arc<AtomicBool>) -> Arc<Self> {
        let line = Self {
            client,
            opened: 0.into(),
            newest: 0.into(),
            passed: 0.into(),
            last: clients.shared().now.load(Ordering::Relaxed).into(),
            blocked,
            streams: Mutex::default(),
            alone: Count::default(),
            order: 0.into(),
            told: AtomicWaker::new(),
        };
        let line = Arc::new(line);
        clients.lines.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&line));
        line
    }

    /// A new stream on it.
    pub(crate) fn open(self: &Arc<Self>) -> Arc<Stream> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let mut list = self.list();
        let slot = list.free.pop().unwrap_or_else(|| {
            list.slots.push(None);
            list.slots.len() - 1
        });
        let place = Place {
            number,
            slot,
            answering: AtomicWaker::new(),
            is_answered: false.into(),
            is_given_up: false.into(),
            last: self.shared().now.load(Ordering::Relaxed).into(),
            passed: self.passed().into(),
            opened: number.into(),
        };
        let stream = Stream::on(Owner::Connection(self.clone()), Some(place));
        list.slots[slot] = Some(Arc::downgrade(&stream));
        list.next = Some(stream.clone());
        stream
    }

    /// A request that is alone on it.
    pub(crate) fn open_alone(self: &Arc<Self>) -> Arc<Stream> {
        self.alone.enter(usize::MAX);
        self.last.store(self.shared().now.load(Ordering::Relaxed), Ordering::Relaxed);
        Stream::on(Owner::Alone(self.clone()), None)
    }

    /// Whether nothing is under way on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.alone.now() == 0 && self.list().slots.iter().all(Option::is_none)
    }

    /// When its client took something last, as the sweep counts.
    pub(crate) fn moved(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// One is gone.
    pub(crate) fn left(&self, slot: usize) {
        let mut list = self.list();
        list.slots[slot] = None;
        list.free.push(slot);
    }

    /// Ends when it is told so, or more. Cancel-safe. Looked at with each step of a connection, so this is no token,
    /// which would take a lock each time.
    pub(crate) async fn told(&self, order: Order) {
        std::future::poll_fn(|cx| {
            if self.is_told(order) {
                return Poll::Ready(());
            }
            self.told.register(cx.waker());
            if self.is_told(order) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    pub(crate) fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::SeqCst);
        self.told.wake();
    }

    pub(crate) fn is_told(&self, order: Order) -> bool {
        self.order.load(Ordering::SeqCst) >= order as u8
    }

    /// The streams that are still there.
    pub(crate) fn streams(&self) -> Vec<Arc<Stream>> {
        self.list().slots.iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// The stream of this number took so many bytes. Answers what has passed in all, and when it is.
    pub(crate) fn took(&self, number: u64, bytes: u64) -> (u64, u64) {
        let now = self.shared().now.load(Ordering::Relaxed);
        let passed = self.passed() + bytes;
        self.last.store(now, Ordering::Relaxed);
        self.newest.store(self.newest().max(number), Ordering::Relaxed);
        self.passed.store(passed, Ordering::Relaxed);
        (passed, now)
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    pub(crate) fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    fn shared(&self) -> &Shared {
        &self.client.shared
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the tasks that answer the streams of one connection, so that each of them can be ended.
#[derive(Clone)]
pub(crate) struct Tasks(pub(crate) Arc<Connection>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        match self.0.list().next.take() {
            Some(stream) => drop(tokio::spawn(stream.answered_by(future))),
            None => drop(tokio::spawn(future)),
        }
    }
}
