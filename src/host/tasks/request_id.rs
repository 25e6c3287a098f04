//! Carries the id of a request along with the work that is done for it, so that the log can name it.
//!
//! The id is set while a future is polled, and taken over by tasks that are started then ([`carried`]). A fill or a
//! question that serves several requests carries the id of the one that began it. This costs two thread-local writes a
//! poll and no allocation, where a span of `tracing` costs about a microsecond a request: those are for `debug`.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZero;
use std::pin::pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Instrument;

/// Where this process began to count: other processes and other starts have other ids.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()).into());

thread_local! {
    static CURRENT: Cell<Option<RequestId>> = const { Cell::new(None) };
}

/// The id of one request. It is printed as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(NonZero<u64>);

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn next() -> Self {
        Self(NonZero::new(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(NonZero::<u64>::MIN))
    }

    /// That of the request for which this thread works at the moment.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Runs `work` for this request.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        within(Some(self), work).await
    }

    /// Works for this request on this thread until the guard is dropped. Not to be held across an await.
    pub fn enter(self) -> RequestScope {
        RequestScope::new(Some(self))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Restores the earlier id when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct RequestScope {
    before: Option<RequestId>,
}

impl RequestScope {
    fn new(id: Option<RequestId>) -> Self {
        Self { before: CURRENT.replace(id) }
    }
}

impl Drop for RequestScope {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// The same work, done for the request for which this thread works now, and in its span: for a task of its own.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    within(RequestId::current(), work.in_current_span())
}

/// The same for work on a blocking thread.
pub fn carried_over<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (id, span) = (RequestId::current(), tracing::Span::current());
    move || {
        let _entered = RequestScope::new(id);
        span.in_scope(work)
    }
}

async fn within<F: Future>(id: Option<RequestId>, work: F) -> F::Output {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        let _entered = RequestScope::new(id);
        work.as_mut().poll(cx)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sixteen_digits_and_no_other_ones() {
        let (one, other) = (RequestId::next(), RequestId::next());
        assert_ne!(one, other);
        let text = one.to_string();
        assert!(text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    }

    #[tokio::test]
    async fn an_id_goes_along_with_the_work_and_with_its_tasks_and_nowhere_else() {
        let (one, other) = (RequestId::next(), RequestId::next());
        let work = |id: RequestId| {
            id.scope(async move {
                tokio::task::yield_now().await; // the other one runs
                let task = tokio::spawn(carried(async {
                    tokio::task::yield_now().await;
                    RequestId::current()
                }));
                let blocking = tokio::task::spawn_blocking(carried_over(RequestId::current));
                assert_eq!(RequestId::current(), Some(id));
                assert_eq!((task.await.unwrap(), blocking.await.unwrap()), (Some(id), Some(id)));
                let bare = tokio::spawn(async { RequestId::current() }).await.unwrap();
                assert_eq!(bare, None);
            })
        };
        tokio::join!(work(one), work(other));
        assert_eq!(RequestId::current(), None);
    }

    #[test]
    fn what_is_entered_last_counts_until_it_is_left() {
        let (outer, inner) = (RequestId::next(), RequestId::next());
        let entered = outer.enter();
        drop(inner.enter());
        assert_eq!(RequestId::current(), Some(outer));
        drop(entered);
        assert_eq!(RequestId::current(), None);
    }
}
