//! Counts interim answers (1xx, RFC 9110, 15.2), which a server may send without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, StatusCode};
use tokio::sync::Notify;

use super::expect::Continue;

/// So many come before an answer at most: a server that says every twenty seconds that it is at work has less in the
/// longest time that it is waited for. Over HTTP/2 they are not told to us, and end with that time alone.
const LIMIT: u32 = 32;

/// Those of one request.
pub(crate) struct Interim(Arc<Count>);

#[derive(Default)]
struct Count {
    seen: AtomicU32,
    too_many: Notify,
}

/// There were too many.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the server sent {LIMIT} interim answers and no final one")]
pub(crate) struct TooMany;

impl Interim {
    /// Counts those to come.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        let count: Arc<Count> = Arc::default();
        let counting = count.clone();
        let awaited = request.extensions().get::<Continue>().cloned();
        hyper::ext::on_informational(request, move |answer| {
            if let Some(awaited) = awaited.as_ref().filter(|_| answer.status() == StatusCode::CONTINUE) {
                awaited.tell();
            }
            if counting.seen.fetch_add(1, Ordering::Relaxed) + 1 == LIMIT {
                counting.too_many.notify_one();
            }
        });
        Self(count)
    }

    /// Ends once there were too many. Cancel-safe.
    pub(crate) async fn too_many(&self) -> TooMany {
        self.0.too_many.notified().await;
        TooMany
    }
}
