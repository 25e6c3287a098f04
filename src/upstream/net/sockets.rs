//! Limits the connections to upstreams, to a share of the files that this process may open.
//!
//! Threat: a client has the proxy dial hosts that are silent, or a registry falls silent, until no file is left for
//! anybody else. Bound: so many in all, half of them to one host, and half of them kept for a next request. A
//! request that waits longer than a moment for one is told that the fault is the proxy's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use super::downloads::Hosts;
use crate::host::{Budget, LogThrottle};
use crate::oci::Authority;
use crate::upstream::Error;

/// How long one is waited for: shorter than any deadline after which a registry would be blamed.
const WAIT: Duration = Duration::from_secs(1);

static SOCKETS: LazyLock<Sockets> = LazyLock::new(|| Sockets::new(Budget::of_process(None).upstream));
static TURNED_AWAY: AtomicU64 = AtomicU64::new(0);
static SAID: LogThrottle = LogThrottle::new();

/// The connections of this process.
struct Sockets {
    most: usize,
    free: Arc<Semaphore>,
    hosts: Hosts,
}

/// Leave to have one connection, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Socket {
    _of_host: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Socket {
    /// Leave for a connection to `to`. Cancel-safe.
    pub(crate) async fn take(to: &Authority) -> Result<Self, Error> {
        SOCKETS.take(to).await.ok_or_else(|| {
            let limit = SOCKETS.most;
            TURNED_AWAY.fetch_add(1, Ordering::Relaxed);
            if SAID.is_due() {
                warn!(
                    %to, limit, reason = "upstream",
                    "the limit on connections to upstreams is reached; it follows from the limit on open files (LimitNOFILE=)"
                );
            }
            Error::ConnectionLimit { to: to.clone(), limit }
        })
    }
}

impl Sockets {
    fn new(most: usize) -> Self {
        Self { most, free: Arc::new(Semaphore::new(most)), hosts: Hosts::new(most / 2) }
    }

    async fn take(&self, to: &Authority) -> Option<Socket> {
        let both = async {
            let of_host = self.hosts.of(to).acquire_owned().await.ok()?;
            let of_all = self.free.clone().acquire_owned().await.ok()?;
            Some(Socket { _of_host: of_host, _of_all: of_all })
        };
        timeout(WAIT, both).await.ok().flatten()
    }

    fn used(&self) -> usize {
        self.most.saturating_sub(self.free.available_permits())
    }
}

/// Whether no connection should be kept for a next request.
pub(crate) fn are_scarce() -> bool {
    SOCKETS.used() > SOCKETS.most / 2
}

/// How many connections to upstreams there are, and how many there may be.
#[must_use]
pub fn sockets_used() -> (usize, usize) {
    (SOCKETS.used(), SOCKETS.most)
}

/// How many were not made, as there were as many as may be.
#[must_use]
pub fn sockets_refused() -> u64 {
    TURNED_AWAY.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Authority {
        Authority::parse(name, 443).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_host_leaves_half_of_them_to_the_others() {
        let sockets = Sockets::new(4);
        let (silent, other) = (host("silent.test"), host("quay.io"));
        let held = [sockets.take(&silent).await, sockets.take(&silent).await];
        assert!(held.iter().all(Option::is_some) && sockets.take(&silent).await.is_none());
        let others = [sockets.take(&other).await, sockets.take(&other).await];
        assert!(others.iter().all(Option::is_some) && sockets.take(&host("ghcr.io")).await.is_none());
        assert_eq!(sockets.used(), 4);
        drop(held);
        assert!(sockets.take(&host("ghcr.io")).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_back_in_time_is_waited_for() {
        let sockets = Sockets::new(2);
        let to = host("quay.io");
        let held = sockets.take(&to).await.unwrap();
        let later = async {
            tokio::time::sleep(WAIT / 2).await;
            drop(held);
        };
        assert!(tokio::join!(sockets.take(&to), later).0.is_some());
    }
}
