//! Limits the downloads of one host at a time, for all clients together, so that many fills do not overload a registry.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::host::Budget;
use crate::oci::Authority;
use crate::upstream::Error;
use crate::wire::Body;

/// What a request does where a host has as many downloads as it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Downloads {
    /// It is no download, and not counted.
    #[default]
    Uncounted,
    /// Not counted either, and taken at its client's pace.
    Paced,
    /// It waits for another one's end.
    Wait,
    /// It fails with [`Error::Busy`].
    Spare,
}

/// The places at each host.
#[derive(Debug)]
pub(crate) struct DownloadSlots {
    hosts: Hosts,
    all: Arc<Semaphore>,
}

/// So many of something for each host.
#[derive(Debug)]
pub(crate) struct Hosts {
    limit: usize,
    hosts: Mutex<HashMap<Authority, Arc<Semaphore>>>,
}

/// A download's place.
#[derive(Debug)]
pub(crate) struct DownloadPermit {
    _of_host: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// Downloads go on behind callers that have left: half of the connections that may be open are for what is asked.
static ALL: LazyLock<(usize, Arc<Semaphore>)> = LazyLock::new(|| {
    let most = (Budget::of_process(None).upstream / 2).max(1);
    (most, Arc::new(Semaphore::new(most)))
});

/// How many downloads there are, from all hosts together, and how many there may be.
#[must_use]
pub fn downloads_used() -> (usize, usize) {
    let (most, free) = &*ALL;
    (most.saturating_sub(free.available_permits()), *most)
}

/// So many hosts are remembered before those without a download are forgotten.
const REMEMBERED: usize = 1024;

impl DownloadSlots {
    pub(crate) fn new(limit: usize) -> Self {
        Self { hosts: Hosts::new(limit), all: ALL.1.clone() }
    }

    /// A place at a host; `None` for what is not counted. Cancel-safe.
    pub(crate) async fn take(&self, to: &Authority, how: Downloads) -> Result<Option<DownloadPermit>, Error> {
        let busy = || Error::Busy { to: to.clone(), limit: self.hosts.limit };
        let (host, all) = (self.hosts.of(to), self.all.clone());
        let (of_host, of_all) = match how {
            Downloads::Uncounted | Downloads::Paced => return Ok(None),
            Downloads::Wait => {
                (host.acquire_owned().await.map_err(|_| busy())?, all.acquire_owned().await.map_err(|_| busy())?)
            }
            Downloads::Spare => {
                (host.try_acquire_owned().map_err(|_| busy())?, all.try_acquire_owned().map_err(|_| busy())?)
            }
        };
        Ok(Some(DownloadPermit { _of_host: of_host, _of_all: of_all }))
    }
}

impl Hosts {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), hosts: Mutex::default() }
    }

    pub(crate) fn of(&self, to: &Authority) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= REMEMBERED {
            let limit = self.limit;
            hosts.retain(|_, slots| Arc::strong_count(slots) > 1 || slots.available_permits() < limit);
        }
        hosts.entry(to.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.limit))).clone()
    }
}

/// The body keeps the place until it ends or is dropped.
pub(crate) fn holding(body: Body, permit: Option<DownloadPermit>) -> Body {
    match permit {
        None => body,
        Some(permit) => Body::wrap(body.map_frame(move |frame: Frame<Bytes>| {
            let _held = &permit;
            frame
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_serves_so_many_and_no_more() {
        let slots = DownloadSlots::new(2);
        let host = |name| Authority::parse(name, 443).unwrap();
        let (quay, other) = (host("quay.io"), host("other.example"));
        let one = slots.take(&quay, Downloads::Spare).await.unwrap();
        let two = slots.take(&quay, Downloads::Wait).await.unwrap();
        assert!(matches!(slots.take(&quay, Downloads::Spare).await, Err(Error::Busy { limit: 2, .. })));
        assert!(slots.take(&quay, Downloads::Uncounted).await.unwrap().is_none());
        assert!(slots.take(&other, Downloads::Spare).await.is_ok());
        let body = holding(Body::empty(), two);
        drop(one);
        let three = slots.take(&quay, Downloads::Wait).await.unwrap();
        assert!(slots.take(&quay, Downloads::Spare).await.is_err());
        drop((body, three));
        assert!(slots.take(&quay, Downloads::Spare).await.is_ok());
    }
}
