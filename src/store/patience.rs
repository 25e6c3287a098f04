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
