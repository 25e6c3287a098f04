//! One connection of HTTP/2 and the streams on it: who of them moves, and how one that does not is ended.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::clients::{Client, Clients, Shared};
use super::stream::{Owner, Place, Stream};

/// The list of a connection's streams is gone over when it has grown to this many.
const LIST: usize = 64;

/// A connection.
pub(in crate::proxy) struct Line {
    pub(super) client: Arc<Client>,
    opened: AtomicU64,
    /// The latest stream that took something. This and what follows only the connection's own task writes.
    newest: AtomicU64,
    /// Bytes of answers that it took, and when it took some last.
    passed: AtomicU64,
    last: AtomicU64,
    /// Whether its peer takes nothing at the moment: then the system says whether it is alive.
    blocked: Arc<AtomicBool>,
    streams: Mutex<List>,
    /// No new streams, then none at all.
    pub(in crate::proxy) ending: CancellationToken,
    pub(in crate::proxy) over: CancellationToken,
}

#[derive(Default)]
struct List {
    all: Vec<Weak<Stream>>,
    full: usize,
    /// The stream whose task comes next: hyper starts it right after the request was handed over.
    next: Option<Arc<Stream>>,
}

impl Line {
    /// A connection of `client`, which is looked after until it is dropped. `blocked` is true while nothing can be
    /// written to it.
    pub(in crate::proxy) fn new(clients: &Clients, client: Arc<Client>, blocked: Arc<AtomicBool>) -> Arc<Self> {
        let line = Self {
            client,
            opened: 0.into(),
            newest: 0.into(),
            passed: 0.into(),
            last: clients.shared().now.load(Ordering::Relaxed).into(),
            blocked,
            streams: Mutex::default(),
            ending: CancellationToken::new(),
            over: CancellationToken::new(),
        };
        let line = Arc::new(line);
        clients.shared().lines.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&line));
        line
    }

    /// A new stream on it.
    pub(in crate::proxy) fn open(self: &Arc<Self>) -> Arc<Stream> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let place = Place {
            number,
            task: OnceLock::new(),
            is_given_up: false.into(),
            last: self.shared().now.load(Ordering::Relaxed).into(),
            passed: self.passed().into(),
            opened: number.into(),
        };
        let stream = Stream::on(Owner::Line(self.clone()), Some(place));
        let mut list = self.list();
        if list.all.len() >= list.full.max(LIST) {
            list.all.retain(|stream| stream.strong_count() > 0);
            list.full = list.all.len() * 2;
        }
        list.all.push(Arc::downgrade(&stream));
        list.next = Some(stream.clone());
        stream
    }

    /// The streams that are still there.
    pub(super) fn streams(&self) -> Vec<Arc<Stream>> {
        self.list().all.iter().filter_map(Weak::upgrade).collect()
    }

    /// The stream of this number took so many bytes. Answers what has passed in all, and when it is.
    pub(super) fn took(&self, number: u64, bytes: u64) -> (u64, u64) {
        let now = self.shared().now.load(Ordering::Relaxed);
        let passed = self.passed() + bytes;
        self.last.store(now, Ordering::Relaxed);
        self.newest.store(self.newest().max(number), Ordering::Relaxed);
        self.passed.store(passed, Ordering::Relaxed);
        (passed, now)
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    pub(super) fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    pub(super) fn is_blocked(&self) -> bool {
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
pub(in crate::proxy) struct Tasks(pub(in crate::proxy) Arc<Line>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let next = self.0.list().next.take();
        let task = tokio::spawn(future);
        if let Some(place) = next.as_ref().and_then(|stream| stream.of.as_ref()) {
            let _ = place.task.set(task); // the first one is its own
        }
    }
}
