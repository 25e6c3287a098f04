//! Saves what has landed of a fill beside its staged file, so that a restart can resume it.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::fill::Fill;

/// What has landed is remembered across restarts when so much was added, or after so long.
const REMEMBER_BYTES: u64 = 64 << 20;
const REMEMBER_AFTER: Duration = Duration::from_secs(10);
/// Less is not worth remembering while a fill is under way, in bytes.
pub(crate) const KEEP_FROM: u64 = 1 << 20;

/// How much of a fill is remembered, and the remembering that is under way.
pub(crate) struct Checkpoint {
    /// Bytes, and when.
    last: (u64, Instant),
    under_way: Option<JoinHandle<()>>,
}

impl Checkpoint {
    /// Of a fill that begins: what it has taken up was remembered.
    pub(crate) fn of(fill: &Fill) -> Self {
        Self { last: (fill.progress(), Instant::now()), under_way: None }
    }

    /// Remembers anew where that is due and no remembering is under way.
    pub(crate) fn refresh(&mut self, fill: &Fill) {
        if self.under_way.as_ref().is_some_and(JoinHandle::is_finished) {
            self.under_way = None;
        }
        let (bytes, when) = self.last;
        let progress = fill.progress();
        let is_due = progress - bytes >= REMEMBER_BYTES || (progress > bytes && when.elapsed() >= REMEMBER_AFTER);
        if is_due && self.under_way.is_none() && progress >= KEEP_FROM {
            self.last = (progress, Instant::now());
            self.under_way = Some(remember(fill));
        }
    }

    /// Waits for a remembering under way: it speaks of no more than has landed.
    pub(crate) async fn settle(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            let _ = under_way.await;
        }
    }
}

/// Remembers what has landed, for the next demand.
pub(crate) async fn keep(fill: &Fill) {
    if let Err(error) = remember(fill).await {
        debug!(%error, "saving the progress of a fill was interrupted");
    }
}

/// The same of a fill that its upstream did not end, and at once, though readers may still have it.
pub(crate) async fn keep_now(fill: &Fill) {
    keep(fill).await;
    fill.staged().park();
}

fn remember(fill: &Fill) -> JoinHandle<()> {
    let (staged, (extents, total)) = (fill.staged().handle(), fill.extents());
    fill.tasks().spawn_blocking(move || {
        if let Err(error) = staged.remember(&extents, total, None) {
            warn!(digest = %staged.digest(), %error, "cannot save the progress of a download");
        }
    })
}
