//! Bounds how long anything waits for a disk that hangs: work on it runs on a blocking thread, which is left after a time.
//!
//! A disk that does not return (a network file system without its server, a dying controller) holds the thread that asked
//! it for as long as the kernel waits. The first one that waits too long notes it ([`StoreHealth::hung`]); from then on
//! nobody else asks, until a probe by the store's own thread comes back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::health::StoreHealth;
use super::{Blob, Error, Store};
use crate::oci::Digest;

/// A client has its headers within 25 s: so there is time to open a file in vain, to look into the catalog in vain, and
/// to ask the registry.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// Waits for `work` on the disk until then. Cancel-safe: the work goes on.
///
/// # Errors
/// The disk hangs. The work goes on all the same.
pub(crate) async fn wait<T>(
    health: &StoreHealth,
    (doing, path): (&'static str, &Path),
    until: Instant,
    work: &mut JoinHandle<T>,
) -> Result<Result<T, JoinError>, Error> {
    tokio::select! {
        biased;
        done = work => return Ok(done),
        () = health.hang() => {}
        () = tokio::time::sleep_until(until) => health.hung(doing, path),
    }
    Err(Error::io(doing, path, io::ErrorKind::TimedOut))
}

/// Ends when the disk has let a read of this file that begins now wait for too long, or hangs anyway.
pub(crate) fn hung(health: &Arc<StoreHealth>, path: &Path) -> impl Future<Output = ()> + Send + use<> {
    let (health, path) = (Arc::clone(health), path.to_owned());
    async move {
        tokio::select! {
            () = health.hang() => {}
            () = tokio::time::sleep(health.patience()) => health.hung("read", &path),
        }
    }
}

impl Store {
    /// Whether the disk hangs: then nothing here is worth waiting for.
    #[must_use]
    pub fn is_hanging(&self) -> bool {
        self.blobs().disk.health().is_hanging()
    }

    /// Waits until the disk hangs. Cancel-safe.
    pub async fn hang(&self) {
        self.blobs().disk.health().hang().await;
    }

    /// What a disk that hangs answers.
    #[must_use]
    pub fn hanging(&self) -> Error {
        Error::io("wait for the disk of", self.root(), io::ErrorKind::TimedOut)
    }

    /// Does `work` on a thread that may wait for the disk, and leaves it there if the disk hangs. Cancel-safe: the work
    /// goes on.
    ///
    /// # Errors
    /// Those of the work, or that the disk hangs.
    pub async fn patiently<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.is_hanging() {
            return Err(self.hanging());
        }
        let store = self.clone();
        let mut working = tokio::task::spawn_blocking(move || work(&store));
        let health = self.blobs().disk.health();
        let done = wait(health, (doing, self.root()), Instant::now() + health.patience(), &mut working).await?;
        done.unwrap_or(Err(Error::Closed))
    }

    /// As [`Store::read`], on the network task where the file is in memory.
    ///
    /// # Errors
    /// As [`Store::read`], or that the disk hangs.
    pub async fn look(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        if self.is_hanging() {
            return Err(self.hanging());
        }
        if let Some(found) = self.read_now(digest)? {
            return Ok(found);
        }
        let digest = *digest;
        self.patiently("open a blob in", move |store| store.read(&digest)).await
    }
}
