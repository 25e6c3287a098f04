//! The status of a fill that can be waited for: its length, then that its digest matched or what broke it.

use tokio::sync::watch;

use crate::cache::Fault;

/// What a caller can be told before the first byte.
#[derive(Clone, Debug)]
enum News {
    Opening,
    /// A source is open; the length, if it said one.
    Open(Option<u64>),
    /// The length in bytes of a content whose digest matched, or the fault that ended the fill.
    Ended(Result<u64, Fault>),
}

impl News {
    fn is_end(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// The latest news, and who waits for them.
pub(crate) struct FillStatus(watch::Sender<News>);

/// How a fill will end, for tasks that the fill does not wait for.
pub struct Ending(watch::Receiver<News>);

impl Ending {
    /// Waits for it: the content's length in bytes, if all of it is there and its digest matched. Cancel-safe.
    pub async fn verified(mut self) -> Option<u64> {
        match self.0.wait_for(News::is_end).await.as_deref() {
            Ok(News::Ended(Ok(total))) => Some(*total),
            _ => None,
        }
    }
}

impl FillStatus {
    /// Of a content whose length is known from before, or is not.
    pub(crate) fn new(total: Option<u64>) -> Self {
        Self(watch::Sender::new(total.map_or(News::Opening, |total| News::Open(Some(total)))))
    }

    /// See [`Waiter::length`](super::Waiter::length).
    pub(crate) async fn length(&self) -> Result<Option<u64>, Fault> {
        let mut news = self.0.subscribe();
        match news.wait_for(|news| !matches!(news, News::Opening | News::Open(Some(0)))).await.as_deref() {
            Ok(News::Ended(end)) => end.clone().map(Some),
            Ok(News::Open(total)) => Ok(*total),
            Ok(News::Opening) | Err(_) => Ok(None), // the sender lives in self
        }
    }

    /// See [`Waiter::verified`](super::Waiter::verified).
    pub(crate) async fn verified(&self) -> Result<u64, Fault> {
        match self.0.subscribe().wait_for(News::is_end).await.as_deref() {
            Ok(News::Ended(end)) => end.clone(),
            _ => Ok(0), // the sender lives in self
        }
    }

    /// Whether no source has answered yet.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(*self.0.borrow(), News::Opening)
    }

    pub(crate) fn is_verified(&self) -> bool {
        matches!(*self.0.borrow(), News::Ended(Ok(_)))
    }

    pub(crate) fn ending(&self) -> Ending {
        Ending(self.0.subscribe())
    }

    /// A source is open, or the length became known.
    pub(crate) fn open(&self, total: Option<u64>) {
        self.0.send_if_modified(|news| {
            let is_new = matches!(news, News::Opening) || matches!((&news, total), (News::Open(None), Some(_)));
            if is_new {
                *news = News::Open(total);
            }
            is_new
        });
    }

    /// The fill has ended.
    pub(crate) fn end(&self, end: Result<u64, Fault>) {
        self.0.send_replace(News::Ended(end));
    }
}
