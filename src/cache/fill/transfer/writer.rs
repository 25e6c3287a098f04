//! Writes what arrives to the staged file, off the network task, in batches of whatever came meanwhile.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cache::fill::fill::Fill;
use crate::cache::fill::staged_file::StagedHandle;
use crate::cache::{Fault, Retry};
use crate::host::TaskGroup;
use crate::store;
use crate::wire::Span;

/// Bytes may wait here while a write is under way; past this the upstream is not read, so that a slow disk
/// costs this much checkpoint a lane and no more.
const PENDING_LIMIT: usize = 2 << 20;

/// Writes to a staged file from one position on.
pub(crate) struct StagedWriter {
    staged: StagedHandle,
    tasks: TaskGroup,
    at: u64,
    pending: VecDeque<(u64, Bytes)>,
    pending_len: usize,
    writing: Option<JoinHandle<Result<Span, store::Error>>>,
    /// When that began.
    since: Instant,
}

impl StagedWriter {
    pub(crate) fn new(fill: &Fill, at: u64) -> Self {
        let (staged, tasks) = (fill.staged().handle(), fill.tasks().clone());
        Self { staged, tasks, at, pending: VecDeque::new(), pending_len: 0, writing: None, since: Instant::now() }
    }

    /// Where the next byte given to [`StagedWriter::push`] goes.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Whether more bytes may be pushed now.
    pub(crate) fn has_room(&self) -> bool {
        self.pending_len < PENDING_LIMIT
    }

    /// Whether bytes have not landed yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.writing.is_some()
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        let from = self.at;
        self.at += bytes.len() as u64;
        self.pending_len += bytes.len();
        self.pending.push_back((from, bytes));
        self.start();
    }

    /// Leaves out so many bytes.
    pub(crate) fn jump(&mut self, count: u64) {
        self.at += count;
    }

    /// Starts to write what is pending, up to the first jump.
    fn start(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let Some((from, first)) = self.pending.pop_front() else { return };
        let mut to = from + first.len() as u64;
        let mut batch = vec![first];
        while self.pending.front().is_some_and(|(at, _)| *at == to)
            && let Some((_, bytes)) = self.pending.pop_front()
        {
            to += bytes.len() as u64;
            batch.push(bytes);
        }
        self.pending_len -= batch.iter().map(Bytes::len).sum::<usize>();
        let staged = self.staged.clone();
        self.since = Instant::now();
        self.writing = Some(self.tasks.spawn_blocking(move || {
            let mut at = from;
            for bytes in batch {
                staged.write_at(at, &bytes)?;
                at += bytes.len() as u64;
            }
            Ok(Span { from, to: at })
        }));
    }

    /// Waits for the write under way, answers what it landed, and starts the next. Cancel-safe; pending for
    /// ever when nothing is being written.
    pub(crate) async fn landed(&mut self) -> Result<Span, Fault> {
        let Some(writing) = self.writing.as_mut() else { return std::future::pending().await };
        let landed = self.staged.written(self.since, writing).await;
        self.writing = None; // a disk that hangs keeps the thread
        let span = landed.map_err(|cause| Fault::new(Retry::Never, cause))?;
        let span = span.map_err(|cause| Fault::new(Retry::Never, cause))?;
        self.start();
        span.map_err(|cause| Fault::of_store(Retry::Never, cause))
    }
}
