//! Bounds how long anything waits for a disk that hangs: work on it runs on a blocking thread, which is left after a time.
//!
//! A disk that does not return (a network file system without its server, a dying controller) holds the thread that asked
//! it for as long as the kernel waits. The first one that waits too long notes it ([`StoreHealth::hung`]); from then on
//! nobody else asks, until a probe by the store's own thread comes back.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::Error;
use super::health::StoreHealth;

/// Work waits for so many times its patience while blobs are being evicted for it.
const EVICTIONS: u32 = 8;

/// Waits for `work` on the disk until then, and longer while evictions make progress: removing many files may take long on
/// a disk that is well. Cancel-safe: the work goes on.
///
/// # Errors
/// The disk hangs. The work goes on all the same.
pub(crate) async fn wait<T>(
    health: &StoreHealth,
    (doing, path): (&'static str, &Path),
    until: Instant,
    work: &mut JoinHandle<T>,
) -> Result<Result<T, JoinError>, Error> {
    let (mut until, mut steps, mut left) = (until, health.steps_of_evictions(), EVICTIONS);
    loop {
        tokio::select! {
            biased;
            done = &mut *work => return Ok(done),
            () = health.hang() => break,
            () = tokio::time::sleep_until(until) => {}
        }
        let before = std::mem::replace(&mut steps, health.steps_of_evictions());
        if steps == before || left == 0 {
            health.hung(doing, path);
            break;
        }
        left -= 1;
        until += health.patience();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_eviction_is_no_hanging_disk_and_one_that_stands_still_is() {
        let health = Arc::new(StoreHealth::with_patience(Duration::from_secs(8)));
        let (evicting, path) = (Arc::clone(&health), Path::new("f"));
        let mut write = tokio::spawn(async move {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                evicting.freed();
            }
        });
        let until = || Instant::now() + health.patience();
        assert!(wait(&health, ("write", path), until(), &mut write).await.is_ok());
        assert_eq!(health.fault(), None);
        let mut write = tokio::spawn(std::future::pending::<()>());
        assert!(wait(&health, ("write", path), until(), &mut write).await.is_err());
        assert!(health.is_hanging());
    }
}
