//! Finds the streams of one connection, ends one of them, and tells the connection to end.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use futures_util::task::AtomicWaker;

use super::stream::{Owner, Stream, StreamSlot};
use super::traffic::Traffic;
use super::usage::Usage;

/// A connection.
pub(crate) struct Connection {
    pub(crate) traffic: Arc<Traffic>,
    /// Whether its peer takes nothing at the moment: then the system says whether it is alive.
    blocked: Arc<AtomicBool>,
    streams: Mutex<List>,
    /// The order that it was given, and the task that acts on it.
    order: AtomicU8,
    told: AtomicWaker,
}

/// The orders to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum ConnectionOrder {
    /// Take no new streams.
    Finish = 1,
    /// End.
    Close = 2,
}

#[derive(Default)]
struct List {
    slots: Vec<Weak<Stream>>,
    /// The stream whose task comes next: hyper starts it right after the request was handed over.
    next: Option<Arc<Stream>>,
}

impl Connection {
    /// A connection of `client`. `blocked` is true while nothing can be written to it.
    pub(crate) fn new(client: Arc<Usage>, blocked: Arc<AtomicBool>) -> Self {
        Self {
            traffic: Arc::new(Traffic::new(client)),
            blocked,
            streams: Mutex::default(),
            order: 0.into(),
            told: AtomicWaker::new(),
        }
    }

    /// A new stream on it.
    pub(crate) fn open(&self) -> Arc<Stream> {
        let number = self.traffic.open();
        let mut list = self.list();
        let slot = self.traffic.free_slot().unwrap_or(list.slots.len());
        let place = StreamSlot {
            number,
            slot,
            answering: AtomicWaker::new(),
            is_answered: false.into(),
            is_given_up: false.into(),
            last: self.traffic.now().into(),
            passed: self.traffic.passed().into(),
            opened: number.into(),
        };
        let stream = Stream::on(Owner::Connection(self.traffic.clone()), Some(place));
        match list.slots.get_mut(slot) {
            Some(free) => *free = Arc::downgrade(&stream),
            None => list.slots.push(Arc::downgrade(&stream)),
        }
        list.next = Some(stream.clone());
        stream
    }

    /// A request that is alone on it.
    pub(crate) fn open_alone(&self) -> Arc<Stream> {
        self.traffic.enter_alone();
        Stream::on(Owner::Alone(self.traffic.clone()), None)
    }

    /// Whether nothing is under way on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.traffic.alone() == 0 && self.list().slots.iter().all(|stream| stream.strong_count() == 0)
    }

    /// Ends when it is told so, or more. Cancel-safe. Looked at with each step of a connection, so this is no token,
    /// which would take a lock each time.
    pub(crate) async fn told(&self, order: ConnectionOrder) {
        std::future::poll_fn(|cx| {
            if self.is_told(order) {
                return Poll::Ready(());
            }
            self.told.register(cx.waker());
            if self.is_told(order) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    pub(crate) fn tell(&self, order: ConnectionOrder) {
        self.order.fetch_max(order as u8, Ordering::SeqCst);
        self.told.wake();
    }

    pub(crate) fn is_told(&self, order: ConnectionOrder) -> bool {
        self.order.load(Ordering::SeqCst) >= order as u8
    }

    /// The streams that are still there.
    pub(crate) fn streams(&self) -> Vec<Arc<Stream>> {
        self.list().slots.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the tasks that answer the streams of one connection, so that each of them can be ended. A task holds its
/// connection, which is swept for as long.
#[derive(Clone)]
pub(crate) struct Tasks(pub(crate) Arc<Connection>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let next = self.0.list().next.take();
        let connection = self.0.clone();
        tokio::spawn(async move {
            match next {
                Some(stream) => stream.answered_by(future).await,
                None => future.await,
            }
            drop(connection);
        });
    }
}
