//! Runs one fill to the end: fetches, verifies and commits it; or parks it, or gives it up.

use std::sync::Arc;

use tracing::{debug, error, info};

use super::FillConfig;
use super::checkpoint::{keep, keep_now};
use super::fill::Fill;
use super::reader::hashing;
use super::transfer::driver::{Driver, Halt};
use crate::cache::mismatch::Mismatch;
use crate::cache::{Fault, Retry};
use crate::store::{self, Checksums};
use crate::telemetry::{Metrics, chain};

/// Runs a fill to its end.
pub(crate) async fn run(fill: Arc<Fill>, config: FillConfig, metrics: Metrics) {
    let counted = metrics.fill();
    let gathering = async {
        let gathered = Driver::new(&fill, config, &metrics).gather().await;
        match &gathered {
            Err(Halt::Detached(fault)) => {
                let place = fill.place();
                let (registry, repository) = (&*place.registry, place.repository.as_str());
                if is_too_large(fault) {
                    info!(registry, repository, digest = %fill.digest(), %fault, "this blob is larger than the cache; its clients are served without caching");
                } else if let Some(unlogged) = fill.staged().tells_of_failure() {
                    error!(registry, repository, digest = %fill.digest(), error = chain(&fault), unlogged, "the cache cannot store the rest of this blob; its clients are served without it");
                }
                fill.detach(fault);
            }
            Err(Halt::Broken(fault) | Halt::Spoilt(fault)) => fill.break_off(fault),
            Ok(()) | Err(Halt::Parked) => {}
        }
        gathered
    };
    let (gathered, hashed) = tokio::join!(gathering, hashing::prove(&fill));
    drop(counted);
    match (gathered, hashed) {
        (Err(Halt::Parked), _) => {
            let place = fill.place();
            info!(registry = &*place.registry, repository = place.repository.as_str(), digest = %fill.digest(), landed = fill.progress(), "no client waits for this blob; its download is parked");
            if fill.progress() > 0 {
                keep(&fill).await;
            } else {
                abandon(&fill).await;
            }
            fill.staged().let_go().await; // the next fill of this content resumes it
        }
        (Err(Halt::Detached(_)), _) => abandon(&fill).await,
        (Err(Halt::Broken(fault)), _) if fill.progress() > 0 => {
            debug!(digest = %fill.digest(), %fault, "a fill ended without content");
            keep_now(&fill).await;
        }
        (Err(Halt::Broken(fault) | Halt::Spoilt(fault)), _) | (Ok(()), Err(fault)) => {
            debug!(digest = %fill.digest(), %fault, "a fill ended without content");
            fill.break_off(&fault);
            abandon(&fill).await;
        }
        (Ok(()), Ok((found, checksums))) if found == *fill.digest() => {
            fill.verify(checksums.len());
            commit(&fill, checksums).await;
        }
        (Ok(()), Ok((found, _))) => {
            let mismatch = Mismatch { wanted: *fill.digest(), found };
            let place = fill.place();
            error!(registry = &*place.registry, repository = place.repository.as_str(), digest = %fill.digest(), "{mismatch}; its clients were cut off and nothing is cached");
            metrics.digest_mismatch();
            fill.endpoints().lied();
            abandon(&fill).await;
            fill.break_off(&Fault::new(Retry::Never, mismatch));
        }
    }
}

/// Whether the content would not fit into an empty cache either, which is nobody's fault.
fn is_too_large(fault: &Fault) -> bool {
    matches!(fault.cause.downcast_ref(), Some(store::Error::TooLarge { .. }))
}

/// Removes what was staged, off the network task.
async fn abandon(fill: &Fill) {
    let staged = fill.staged().handle();
    let _ = fill.tasks().spawn_blocking(move || staged.abandon()).await; // a panic was reported when it happened
}

async fn commit(fill: &Arc<Fill>, checksums: Checksums) {
    let staged = fill.staged().handle();
    let mut committing = fill.tasks().spawn_blocking(move || staged.commit_with(checksums));
    let committed = match fill.staged().committed(&mut committing).await {
        Ok(committed) => committed,
        // The next one of this content must not begin before it ends; nobody waits for that.
        Err(_) => committing.await,
    };
    if let Ok(Err(cause)) = committed
        && let Some(unlogged) = fill.staged().tells_of_failure()
    {
        let place = fill.place();
        error!(registry = &*place.registry, repository = place.repository.as_str(), digest = %fill.digest(), error = chain(&cause), unlogged, "cannot store a verified blob; its clients are still served");
    }
}
