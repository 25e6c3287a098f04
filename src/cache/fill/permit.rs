//! The permit of a fill: it holds the one slot of a content and registry, from before the file is opened until it is let go.
//!
//! Whoever has it gives it back by dropping it, so that a caller that leaves or a driver that panics blocks nobody.

use std::sync::Arc;

use moka::sync::Cache;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::FillConfig;
use super::endpoints::Endpoints;
use super::fill::Fill;
use super::reader::waiter::Waiter;
use super::slots::{Key, Slots};
use super::sources::{self, FillSource, Opening};
use super::status::Ending;
use super::task;
use crate::cache::{Fault, Retry};
use crate::host::TaskGroup;
use crate::oci::Digest;
use crate::store::{self, Store};
use crate::telemetry::Metrics;

/// What every fill of this process needs.
#[derive(Clone)]
pub(crate) struct FillContext {
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) config: FillConfig,
    /// The endpoints whose bytes had the wrong digest lately, the earliest first: the next fill asks the others first.
    pub(crate) liars: Cache<Key, Arc<[Arc<str>]>>,
    pub(crate) slots: Slots,
    pub(crate) tasks: TaskGroup,
}

/// A fill's hold on its slot.
pub(crate) struct Permit {
    pub(crate) context: FillContext,
    pub(crate) key: Key,
    /// Others wait for its end.
    pub(crate) gone: watch::Sender<()>,
}

/// The fill's task came to a bad end.
#[derive(Debug, thiserror::Error)]
#[error("the fill was broken off by a fault of the proxy")]
struct Panicked;

impl Permit {
    /// Begins the fill, where an earlier one stopped if there was one. Waits for the disk.
    pub(crate) fn begin<F, H>(
        self,
        digest: &Digest,
        source: FillSource,
        heed: F,
    ) -> Result<(Waiter, Opening), store::Error>
    where
        F: FnOnce(Ending, Opening) -> H,
        H: Future<Output = ()> + Send + 'static,
    {
        let (caller, opening) = (source.caller.clone(), source.opening());
        let fill = Arc::new(self.open(digest, source)?);
        let Some(waiter) = Waiter::of(&fill, &caller) else { return Err(store::Error::Closed) }; // it has just begun
        let FillContext { config, metrics, tasks, .. } = self.context.clone();
        let heeded = tasks.spawn(heed(waiter.ending(), opening.clone()));
        let span = tracing::debug_span!("fill", %digest, registry = &*self.key.1);
        let attended = self.occupied(&fill).attend(task::run(fill.clone(), config, metrics), fill, heeded);
        span.in_scope(|| tasks.spawn(attended));
        Ok((waiter, opening))
    }

    fn open(&self, digest: &Digest, source: FillSource) -> Result<Fill, store::Error> {
        let FillContext { store, liars, tasks, .. } = &self.context;
        let registry = &*self.key.1;
        let endpoints = liars.get(&self.key).map_or_else(Endpoints::default, |liars| Endpoints::wary_of(&liars));
        match store.resume(digest, registry) {
            Ok(Some(partial)) => return Ok(Fill::resumed(partial, source, endpoints, tasks.clone())),
            Ok(None) => {}
            Err(error) => tracing::warn!(%digest, %error, "cannot resume an unfinished download"),
        }
        Ok(Fill::new(store.stage_from(digest, registry)?, source, endpoints, tasks.clone()))
    }

    /// The fill may be joined from here on.
    fn occupied(mut self, fill: &Arc<Fill>) -> Self {
        let (gone, is_gone) = watch::channel(());
        if let Some(slot) = self.context.slots.lock().get_mut(&self.key) {
            slot.fill = Some(fill.clone());
            slot.gone = is_gone;
        }
        self.gone = gone; // who waited for the old one comes again
        self
    }

    /// Sees a fill through. Its file is let go, and what its success proves is noted, before the next one of the same
    /// content may begin.
    async fn attend(self, driver: impl Future<Output = ()>, fill: Arc<Fill>, heeded: JoinHandle<()>) {
        driver.await;
        fill.sources().fail(&sources::not_asked());
        if fill.status().is_verified() {
            let _ = heeded.await; // it fails only with the runtime
        }
        if let Some(liars) = fill.endpoints().liars() {
            self.context.liars.insert(self.key.clone(), liars.into());
        }
        if let Some(slot) = self.context.slots.lock().get_mut(&self.key) {
            slot.fill = None;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let left = self.context.slots.lock().get_mut(&self.key).and_then(|slot| slot.fill.take());
        if let Some(fill) = left {
            tracing::error!(digest = %fill.digest(), "{Panicked}");
            fill.break_off(&Fault::new(Retry::Again, Panicked));
            fill.staged().abandon();
        }
        self.context.slots.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fill::slots::Slot;
    use crate::cache::fill::{Entered, FillConfig, Fills};
    use crate::cache::silent::Silent;
    use crate::cache::{Caller, Place, Principal, Trust};
    use crate::host::{Percent, Size};
    use crate::oci::Algorithm;

    /// A place taken for a fill that has begun, without a driver.
    struct Taken {
        fills: Fills,
        permit: Permit,
        fill: Arc<Fill>,
        caller: Caller,
        digest: Digest,
        _folder: tempfile::TempDir,
    }

    fn taken() -> Taken {
        let folder = tempfile::tempdir().unwrap();
        let config =
            store::Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let fills = Fills::new(Store::open(&config).unwrap(), FillConfig::default(), Metrics::new(), TaskGroup::new());
        let context = fills.context.clone();
        let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
        let caller = Caller::new(place, Principal::Anonymous, Arc::new(Silent::default()), Trust::default());
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let slot = watch::channel(());
        let key = Key(digest, "quay.io".into());
        context.slots.lock().insert(key.clone(), Slot { fill: None, gone: slot.1 });
        let permit = Permit { context, key, gone: slot.0 };
        let fill = Arc::new(permit.open(&digest, FillSource::of(&caller)).unwrap());
        Taken { fills, permit: permit.occupied(&fill), fill, caller, digest, _folder: folder }
    }

    #[tokio::test]
    async fn a_driver_that_panics_breaks_its_readers_and_leaves_its_place_to_the_next() {
        let Taken { fills, permit, fill, caller, digest, _folder } = taken();
        let waiter = Waiter::of(&fill, &caller).unwrap();
        let heeded = tokio::spawn(std::future::ready(()));
        let attended = tokio::spawn(permit.attend(async { panic!("on purpose") }, fill, heeded));
        assert!(attended.await.is_err());
        assert!(waiter.length().await.is_err(), "a reader is told");
        assert!(fills.is_empty());
        let entered = fills.enter(&digest, &caller, true, || false, |_, _| std::future::ready(())).await.unwrap();
        assert!(matches!(entered, Entered::Started(..)), "the next one begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_that_succeeded_keeps_its_place_until_that_is_noted() {
        let Taken { fills, permit, fill, _folder, .. } = taken();
        let (noted, note) = tokio::sync::oneshot::channel::<()>();
        let heeded = tokio::spawn(async move { drop(note.await) });
        let driver = {
            let fill = fill.clone();
            async move { fill.verify(1) }
        };
        let mut attended = tokio::spawn(permit.attend(driver, fill, heeded));
        let early = tokio::time::timeout(std::time::Duration::from_secs(60), &mut attended).await;
        assert!(early.is_err() && !fills.is_empty(), "who comes now joins it");
        noted.send(()).unwrap();
        attended.await.unwrap();
        assert!(fills.is_empty());
    }
}
