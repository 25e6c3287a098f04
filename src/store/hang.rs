//! Does what may wait for the disk on a thread of its own, and leaves it there if the disk hangs.

use std::io;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::{Blob, Error, Store, patience};
use crate::host::carried_over;
use crate::oci::Digest;

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
        let mut working = tokio::task::spawn_blocking(carried_over(move || work(&store)));
        let health = self.blobs().disk.health();
        let done =
            patience::wait(health, (doing, self.root()), Instant::now() + health.patience(), &mut working).await?;
        done.unwrap_or(Err(Error::Closed))
    }

    /// Waits for `work` on the disk that began just now. Cancel-safe: the work goes on.
    ///
    /// # Errors
    /// The disk hangs. The work goes on all the same.
    pub async fn attend<T>(
        &self,
        doing: &'static str,
        work: &mut JoinHandle<T>,
    ) -> Result<Result<T, JoinError>, Error> {
        let health = self.blobs().disk.health();
        patience::wait(health, (doing, self.root()), Instant::now() + health.patience(), work).await
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::*;
    use crate::host::{Percent, Size};
    use crate::store::{Config, Disk, DiskStep, Witness};

    struct Well;

    impl Witness for Well {
        fn before(&self, _: &DiskStep<'_>) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_catalog_that_hangs_and_it_is_asked_again_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let disk = Disk::impatient(Arc::new(Well), Duration::from_millis(50));
        let store = Store::open_on(&config, disk).unwrap();
        let (hold, held) = mpsc::channel::<()>();
        let asked = store.clone();
        let asking = tokio::spawn(async move {
            let wait = move |_: &rusqlite::Connection| {
                let _ = held.recv(); // until it is dropped
                Ok(())
            };
            asked.catalog().ask("wait", wait).await
        });
        while !asking.is_finished() {
            store.catalog().attend();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(matches!(asking.await.unwrap(), Err(Error::Busy)));
        assert!(matches!(store.catalog().ping("a.test").await, Err(Error::Busy)));
        drop(hold);
        while !matches!(store.catalog().ping("a.test").await, Ok(None)) {
            store.catalog().attend();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    }
}
