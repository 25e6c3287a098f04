//! The status of a fill that can be waited for: its length, then that its digest matched or what broke it.

use tokio::sync::watch;

use crate::cache::Fault;

/// What a caller can be told before the first byte.
#[derive(Clone, Debug)]
enum News {
    Opening,
    /// A source is open; the length, if it said one.
    Open(Option<u64>),
    Verified(u64),
    Broken(Fault),
}

impl News {
    fn is_end(&self) -> bool {
        matches!(self, Self::Verified(_) | Self::Broken(_))
    }
}

/// The latest news, and who waits for them.
pub(crate) struct FillStatus(watch::Sender<News>);

/// How a fill will end, for whoever wants to know without being waited for.
pub struct Ending(watch::Receiver<News>);

impl Ending {
    /// Waits for it: the content's length in bytes, if all of it is there and its digest matched. Cancel-safe.
    pub async fn verified(mut self) -> Option<u64> {
        match self.0.wait_for(News::is_end).await.as_deref() {
            Ok(News::Verified(total)) => Some(*total),
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
            Ok(News::Broken(fault)) => Err(fault.clone()),
            Ok(News::Open(total)) => Ok(*total),
            Ok(News::Verified(total)) => Ok(Some(*total)),
            Ok(News::Opening) | Err(_) => Ok(None), // the sender lives in self
        }
    }

    /// See [`Waiter::verified`](super::Waiter::verified).
    pub(crate) async fn verified(&self) -> Result<u64, Fault> {
        match self.0.subscribe().wait_for(News::is_end).await.as_deref() {
            Ok(News::Broken(fault)) => Err(fault.clone()),
            Ok(News::Verified(total)) => Ok(*total),
            _ => Ok(0),
        }
    }

    /// Whether no source has answered yet.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(*self.0.borrow(), News::Opening)
    }

    pub(crate) fn is_verified(&self) -> bool {
        matches!(*self.0.borrow(), News::Verified(_))
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

    /// The digest matched.
    pub(crate) fn verify(&self, total: u64) {
        self.0.send_replace(News::Verified(total));
    }

    /// There will be no more of it.
    pub(crate) fn break_off(&self, fault: &Fault) {
        self.0.send_replace(News::Broken(fault.clone()));
    }
}
