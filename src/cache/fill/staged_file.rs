//! The staged file of a fill, and everybody else who holds it: the file is put away with its last handle.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::cache::body::pump::ReadAt;
use crate::store::Staged;

/// A thread that reads for a client that has left may hold the file for so long, and no longer.
const HELD_MOST: Duration = Duration::from_secs(1);

/// The fill's own handle.
pub(crate) struct StagedFile {
    staged: Arc<Staged>,
    holders: TaskTracker,
}

/// The handle of another task or thread.
#[derive(Clone)]
pub(crate) struct StagedHandle {
    staged: Arc<Staged>, // dropped before its end is told
    _held: TaskTrackerToken,
}

impl StagedFile {
    pub(crate) fn new(staged: Staged) -> Self {
        let holders = TaskTracker::new();
        holders.close(); // else nobody is told that none is left
        Self { staged: Arc::new(staged), holders }
    }

    pub(crate) fn handle(&self) -> StagedHandle {
        StagedHandle { staged: self.staged.clone(), _held: self.holders.token() }
    }

    /// Waits until every other handle is dropped, for a time. Cancel-safe.
    pub(crate) async fn let_go(&self) {
        let _ = tokio::time::timeout(HELD_MOST, self.holders.wait()).await;
    }
}

impl Deref for StagedFile {
    type Target = Staged;

    fn deref(&self) -> &Staged {
        &self.staged
    }
}

impl Deref for StagedHandle {
    type Target = Staged;

    fn deref(&self) -> &Staged {
        &self.staged
    }
}

impl ReadAt for StagedHandle {
    fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.staged.try_read_at(at, buffer)
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.staged.read_at(at, buffer)
    }

    fn hung(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.staged.hung())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::time::Instant;

    use super::*;
    use crate::host::{Percent, Size};
    use crate::oci::{Algorithm, Digest};
    use crate::store::{self, Store};

    #[tokio::test(start_paused = true)]
    async fn the_file_is_let_go_with_the_last_handle_or_when_that_takes_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            store::Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let store = Store::open(&config).unwrap();
        let file = StagedFile::new(store.stage(&Digest::of(Algorithm::Sha256, b"x")).unwrap());
        file.let_go().await; // nobody holds it
        let (one, other) = (file.handle(), file.handle());
        let copy = one.clone();
        let mut gone = Box::pin(file.let_go());
        assert!(poll!(&mut gone).is_pending());
        drop((one, other));
        assert!(poll!(&mut gone).is_pending(), "a copy is left");
        drop(copy);
        assert!(poll!(&mut gone).is_ready(), "at once");
        let (_held, begun) = (file.handle(), Instant::now());
        file.let_go().await;
        assert_eq!(begun.elapsed(), HELD_MOST);
        drop(gone);
        store.close();
    }
}
