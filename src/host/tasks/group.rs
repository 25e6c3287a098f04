//! Starts background work, and waits at a stop until all of it has ended.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::request_id::{carried, carried_over};

/// The background work of one part of the program. All of it is done for the request that started it, so that what it logs
/// has that request's id. Cheap to clone; clones share the work.
#[derive(Clone, Debug, Default)]
pub struct TaskGroup {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl TaskGroup {
    /// No work yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` to its end, for which a stop waits: what must not be left half done.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(carried(work))
    }

    /// Runs `work` to its end or until a stop, which drops it at its next await: what waits for others, such as an upstream.
    pub fn spawn_until_stop<F>(&self, work: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(async move { stop.run_until_cancelled_owned(work).await })
    }

    /// Runs `work` on a thread that may wait for the disk. A stop waits for it.
    pub fn spawn_blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.tracker.spawn_blocking(carried_over(work))
    }

    /// Ends what runs until a stop, and waits for everything. What is started from now on is waited for too, as long as
    /// something else runs. Has no deadline of its own: its caller sets one. Cancel-safe.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::host::RequestId;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_what_runs_to_its_end_and_ends_what_runs_until_then() {
        let tasks = TaskGroup::new();
        let (finish, finished) = oneshot::channel::<()>();
        let whole = tasks.spawn(finished);
        let endless = tasks.spawn_until_stop(std::future::pending::<()>());
        assert!(timeout(LONG, tasks.stop()).await.is_err(), "one of them has not ended");
        assert_eq!(endless.await.unwrap(), None);
        finish.send(()).unwrap();
        timeout(LONG, tasks.stop()).await.unwrap();
        assert!(whole.is_finished());
        assert_eq!(
            tasks.spawn_until_stop(std::future::pending::<()>()).await.unwrap(),
            None,
            "it is too late for that"
        );
    }

    #[tokio::test]
    async fn a_stop_waits_for_a_thread() {
        let (tasks, (release, held)) = (TaskGroup::new(), std::sync::mpsc::channel::<()>());
        let blocking = tasks.spawn_blocking(move || held.recv());
        let stop = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.stop().await }
        });
        tokio::task::yield_now().await;
        assert!(!stop.is_finished());
        release.send(()).unwrap();
        stop.await.unwrap();
        assert!(blocking.await.is_ok());
    }

    #[tokio::test]
    async fn all_work_is_done_for_the_request_that_started_it() {
        let (tasks, id) = (TaskGroup::new(), RequestId::next());
        let current = async {
            tokio::task::yield_now().await;
            RequestId::current()
        };
        let started = id.scope(async {
            (
                tasks.spawn(current),
                tasks.spawn_until_stop(async { RequestId::current() }),
                tasks.spawn_blocking(RequestId::current),
            )
        });
        let (whole, until, blocking) = started.await;
        let ids = (whole.await.unwrap(), until.await.unwrap(), blocking.await.unwrap());
        assert_eq!(ids, (Some(id), Some(Some(id)), Some(id)));
    }
}
