//! What the catalog's thread is sent, and what it shares with those who send to it.

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

/// What the thread is asked.
pub(crate) enum WriterCommand {
    /// A change.
    Change(Change),
    /// A lookup; it answers by itself, and says whether SQLite found damage.
    Query(Box<dyn FnOnce(&Connection) -> bool + Send>),
    /// Commit everything up to here, then call.
    Flush(Box<dyn FnOnce() + Send>),
    /// Commit and end.
    Stop,
}

/// What the thread shares with those who send to it.
pub(crate) struct WriterState {
    /// Last uses that are not written yet, in microseconds since 1970.
    pub(crate) uses: Mutex<HashMap<Digest, i64>>,
    /// The last time given out, in microseconds since 1970: times of use never repeat and never go back.
    pub(crate) clock: AtomicI64,
    /// How often the catalog was made anew.
    pub(crate) generation: Arc<AtomicU64>,
    /// How often something happened after which folder and catalog may differ.
    pub(crate) divergences: AtomicU64,
    /// How many of these a walk over the folder has reconciled.
    pub(crate) reconciled: AtomicU64,
    /// Asks for that walk.
    pub(crate) walk: Sender<()>,
    /// Is told when the file cannot be written, and when it can again.
    pub(crate) health: Arc<StoreHealth>,
}

impl WriterState {
    /// Now, later than any time given out before.
    pub(crate) fn stamp(&self) -> i64 {
        let now = micros(SystemTime::now());
        let last = self.clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        now.max(last.unwrap_or(now) + 1)
    }
}
