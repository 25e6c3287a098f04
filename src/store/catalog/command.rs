//! Defines the commands to the catalog's thread, and the state that it shares with their senders.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rusqlite::Connection;

use super::change::Change;
use super::key::micros;
use crate::oci::Digest;
use crate::store::health::StoreHealth;

/// A command to the thread.
pub(crate) enum WriterCommand {
    /// Apply a change.
    Change(Change),
    /// Run a lookup, which sends its own answer and returns whether SQLite found damage.
    Query(Box<dyn FnOnce(&Connection) -> bool + Send>),
    /// Commit everything so far, then call this.
    Flush(Box<dyn FnOnce() + Send>),
    /// Commit, and end.
    Stop,
}

/// The state that the thread shares with the senders.
pub(crate) struct WriterState {
    /// Last uses that are not written yet, in microseconds since 1970.
    pub(crate) uses: Mutex<HashMap<Digest, i64>>,
    /// The last time handed out, in microseconds since 1970. Times of use never repeat and never go back.
    pub(crate) clock: AtomicI64,
    /// How often the catalog was replaced.
    pub(crate) generation: Arc<AtomicU64>,
    /// How often folder and catalog may have diverged.
    pub(crate) divergences: AtomicU64,
    /// How many of these divergences a rebuild has reconciled.
    pub(crate) reconciled: AtomicU64,
    /// Requests a rebuild.
    pub(crate) rebuild: Sender<()>,
    /// Learns when the file cannot be written, and when it can again.
    pub(crate) health: Arc<StoreHealth>,
}

impl WriterState {
    /// The current time, later than any handed out before.
    pub(crate) fn stamp(&self) -> i64 {
        let now = micros(SystemTime::now());
        let last = self.clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        now.max(last.unwrap_or(now) + 1)
    }
}
