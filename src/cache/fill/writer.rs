//! Writes what arrives to the staged file, off the network task, in batches of whatever came meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::cache::{Fault, Retry};
use crate::store::{self, Staged};
use crate::wire::Span;

/// Bytes may wait here while a write is under way; past this the upstream is not read, so that a slow disk
/// costs this much memory a fill and no more.
const PENDING_LIMIT: usize = 4 << 20;

/// Appends to a staged file from one position on.
pub(super) struct Writer {
    staged: Arc<Staged>,
    at: u64,
    pending: Vec<Bytes>,
    pending_len: usize,
    writing: Option<JoinHandle<Result<Span, store::Error>>>,
}

impl Writer {
    pub(super) fn new(staged: Arc<Staged>, at: u64) -> Self {
        Self { staged, at, pending: Vec::new(), pending_len: 0, writing: None }
    }

    /// Where the next byte given to [`Writer::push`] goes.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Whether more bytes may be pushed now.
    pub(super) fn has_room(&self) -> bool {
        self.pending_len < PENDING_LIMIT
    }

    /// Whether bytes have not landed yet.
    pub(super) fn is_busy(&self) -> bool {
        self.writing.is_some()
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.at += bytes.len() as u64;
        self.pending_len += bytes.len();
        self.pending.push(bytes);
        self.start();
    }

    fn start(&mut self) {
        if self.writing.is_some() || self.pending.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.pending);
        let from = self.at - self.pending_len as u64;
        self.pending_len = 0;
        let staged = self.staged.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
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
    pub(super) async fn landed(&mut self) -> Result<Span, Fault> {
        let Some(writing) = self.writing.as_mut() else { return std::future::pending().await };
        let landed = writing.await;
        self.writing = None;
        let span = landed.map_err(|cause| Fault::new(Retry::Never, cause))?;
        self.start();
        span.map_err(|cause| Fault::new(Retry::Never, cause))
    }
}
