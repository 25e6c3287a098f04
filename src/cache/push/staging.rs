//! Takes the pieces of one request's body to the disk, on a task of its own, and gives up rather than hold the push back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::landing::{Landing, NotKept};
use crate::cache::rights::place::Place;
use crate::host::{LogThrottle, TaskGroup};
use crate::store::Store;

/// Bytes of one push may wait here for the disk; past this its client is not read.
pub(crate) const PENDING_LIMIT: usize = 2 << 20;
/// And so many pieces, which may be small.
const MOST_PENDING: usize = 1024;
/// So many pieces are written at once.
const BATCH: usize = 256;

static NOT_STORED: LogThrottle = LogThrottle::new();
static NO_ROOM: LogThrottle = LogThrottle::new();

/// What the body and the task share.
#[derive(Default)]
pub(crate) struct Pending {
    bytes: AtomicUsize,
    room: AtomicWaker,
    /// All of the body was handed over.
    is_whole: AtomicBool,
    /// No more is taken, and what was is not kept.
    is_given_up: AtomicBool,
}

/// The body's end.
pub(crate) struct Feed {
    pending: Arc<Pending>,
    pieces: Option<Sender<Bytes>>,
}

/// A push's bytes on their way to the disk, while they are on their way to the registry.
pub struct Staging {
    pending: Arc<Pending>,
    landed: JoinHandle<Option<Option<Landing>>>,
}

/// Begins to take what comes after `landing`.
pub(crate) fn begin(landing: Landing, place: &Place, store: &Store, tasks: &TaskGroup) -> (Feed, Staging) {
    let pending: Arc<Pending> = Arc::default();
    let (pieces, received) = mpsc::channel(MOST_PENDING); // bounded in bytes by `Pending`
    let landed =
        tasks.spawn_until_stop(land(landing, received, pending.clone(), (place.clone(), store.clone(), tasks.clone())));
    (Feed { pending: pending.clone(), pieces: Some(pieces) }, Staging { pending, landed })
}

async fn land(
    mut landing: Landing,
    mut received: Receiver<Bytes>,
    pending: Arc<Pending>,
    (place, store, tasks): (Place, Store, TaskGroup),
) -> Option<Landing> {
    let mut batch = Vec::new();
    while received.recv_many(&mut batch, BATCH).await > 0 {
        let pieces = std::mem::take(&mut batch);
        let count: usize = pieces.iter().map(Bytes::len).sum();
        let mut writing = tasks.spawn_blocking(move || {
            let taken = landing.take(&pieces);
            (landing, taken)
        });
        // A disk that hangs keeps the thread, and the file.
        let taken = store.attend("stage a push in", &mut writing).await.ok().and_then(Result::ok);
        match taken {
            Some((taken, Ok(()))) => landing = taken,
            Some((_, Err(why))) => {
                not_staged(&place, &why);
                pending.give_up();
                return None;
            }
            None => {
                pending.give_up();
                return None;
            }
        }
        pending.written(count);
    }
    (pending.is_whole.load(Ordering::Acquire) && !pending.is_given_up()).then_some(landing)
}

fn not_staged(place: &Place, why: &NotKept) {
    let (registry, repository) = (&*place.registry, place.repository.as_str());
    match why {
        NotKept::NoRoom if NO_ROOM.is_due() => info!(
            registry,
            repository,
            "a push is larger than the cache has room for before it is accepted; it goes on without being cached. Similar lines are not logged for a minute"
        ),
        NotKept::Store(error) if NOT_STORED.is_due() => warn!(
            registry,
            repository,
            error = crate::telemetry::chain(error),
            "a push cannot be stored; it goes on without being cached. Similar failures are not logged for a minute"
        ),
        _ => {}
    }
}

impl Pending {
    /// The disk has taken so many bytes.
    pub(crate) fn written(&self, count: usize) {
        self.bytes.fetch_sub(count, Ordering::AcqRel);
        self.room.wake();
    }

    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
        self.room.wake();
    }

    fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }
}

impl Feed {
    /// Whether another piece may be offered now; else the waker is woken once it may.
    pub(crate) fn has_room(&self, cx: &std::task::Context<'_>) -> bool {
        let has_room = || {
            let has_place = |pieces: &Sender<Bytes>| pieces.capacity() > 0 || pieces.is_closed();
            let is_little = self.pending.bytes.load(Ordering::Acquire) < PENDING_LIMIT;
            self.pending.is_given_up() || self.pieces.as_ref().is_none_or(|pieces| is_little && has_place(pieces))
        };
        if has_room() {
            return true;
        }
        self.pending.room.register(cx.waker());
        has_room()
    }

    /// Hands over the next bytes.
    pub(crate) fn offer(&mut self, piece: &Bytes) {
        if self.pending.is_given_up() {
            self.pieces = None;
        }
        let Some(pieces) = &self.pieces else { return };
        self.pending.bytes.fetch_add(piece.len(), Ordering::AcqRel);
        if pieces.try_send(piece.clone()).is_err() {
            self.give_up();
        }
    }

    /// That was all.
    pub(crate) fn end(&mut self) {
        self.pending.is_whole.store(true, Ordering::Release);
        self.pieces = None;
    }

    /// No more is taken.
    pub(crate) fn give_up(&mut self) {
        self.pending.give_up();
        self.pieces = None;
    }

    /// One whose pieces nobody takes.
    #[cfg(test)]
    pub(crate) fn untaken() -> (Self, Receiver<Bytes>) {
        let (pieces, received) = mpsc::channel(MOST_PENDING);
        (Self { pending: Arc::default(), pieces: Some(pieces) }, received)
    }

    /// What it shares with who takes them.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> Arc<Pending> {
        self.pending.clone()
    }

    /// How many bytes wait for the disk.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.pending.bytes.load(Ordering::Acquire)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if !self.pending.is_whole.load(Ordering::Acquire) {
            self.pending.give_up();
        }
    }
}

impl Staging {
    /// Whether all of the body has been handed over, so that an answer to it can be one to all of it.
    fn is_whole(&self) -> bool {
        self.pending.is_whole.load(Ordering::Acquire)
    }

    /// Waits until all of it has landed. `None` where it was cut, or answered before it was sent, or given up.
    pub(crate) async fn landed(self) -> Option<Landing> {
        if !self.is_whole() {
            self.pending.give_up();
            return None;
        }
        self.landed.await.ok()??
    }
}
