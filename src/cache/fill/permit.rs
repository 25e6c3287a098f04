//! The permit of a fill: it holds the one slot of a content and registry, from before the file is opened until it is let go.
//!
//! Its holder gives it back by dropping it, so that a caller that leaves or a driver that panics blocks nobody.

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
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::cache::fill::fills::Joined;
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

    /// Chance by a seed (xorshift).
    #[derive(Clone)]
    struct Dice(Arc<AtomicU64>);

    impl Dice {
        fn below(&self, limit: u64) -> u64 {
            let mut state = self.0.load(Ordering::Relaxed);
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            self.0.store(state, Ordering::Relaxed);
            (state >> 32) % limit
        }

        /// The others go on, for some steps or none.
        async fn pause(&self) {
            for _ in 0..self.below(4) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// One client, which enters until it is told how the fill ends, or leaves.
    async fn come(fills: Fills, caller: Caller, digest: Digest, dice: Dice, running: Arc<AtomicU64>) {
        loop {
            dice.pause().await;
            let waiter = match fills.join(&digest, &caller, dice.below(2) == 0) {
                Joined::Entered(Entered::Leaving(change)) => {
                    change.gone().await;
                    continue;
                }
                Joined::Entered(Entered::UnderWay(waiter) | Entered::SameSource(waiter, _)) => waiter,
                Joined::Entered(_) => panic!("nothing is stored, and joining starts nothing"),
                Joined::Alone(permit) => {
                    dice.pause().await; // as on the thread that opens the file
                    if dice.below(4) == 0 {
                        return; // the disk takes no file
                    }
                    let fill = Arc::new(permit.open(&digest, FillSource::of(&caller)).unwrap());
                    let permit = permit.occupied(&fill);
                    let waiter = Waiter::of(&fill, &caller).unwrap();
                    let (driven, chance, heeded) = (fill.clone(), dice.clone(), dice.clone());
                    let driver = async move {
                        if running.fetch_add(1, Ordering::SeqCst) > 0 {
                            running.fetch_add(1 << 32, Ordering::SeqCst); // two at a time: it never is 0 again
                        }
                        chance.pause().await;
                        if chance.below(64) == 0 {
                            running.fetch_sub(1, Ordering::SeqCst);
                            panic!("on purpose");
                        }
                        driven.staged().abandon();
                        if chance.below(2) == 0 {
                            driven.verify(1);
                        } else if !driven.park() {
                            driven.break_off(&Fault::new(Retry::Never, Panicked)); // somebody waits for it
                        }
                        chance.pause().await;
                        running.fetch_sub(1, Ordering::SeqCst);
                    };
                    let heeded = tokio::spawn(async move { heeded.pause().await });
                    tokio::spawn(permit.attend(driver, fill, heeded));
                    waiter
                }
            };
            if dice.below(3) == 0 {
                dice.pause().await;
                return; // and does not wait for its end
            }
            drop(waiter.verified().await);
            return;
        }
    }

    #[test]
    fn every_order_of_entering_and_leaving_ends_with_a_free_slot_and_leaves_nobody_waiting() {
        let Taken { fills, permit, fill, caller, digest, _folder } = taken();
        drop((permit, fill)); // its slot is free
        let seeds = std::env::var("SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(2000);
        for seed in 1..=seeds {
            let dice = Dice(Arc::new(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15).into()));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(async {
                let running = Arc::new(AtomicU64::new(0));
                let come = || come(fills.clone(), caller.clone(), digest, dice.clone(), running.clone());
                let clients: Vec<_> = (0..2 + dice.below(4)).map(|_| tokio::spawn(come())).collect();
                for client in clients {
                    let told = tokio::time::timeout(std::time::Duration::from_secs(3600), client).await;
                    assert!(matches!(told, Ok(Ok(()))), "seed {seed}: {told:?}");
                }
                while !fills.is_empty() {
                    tokio::task::yield_now().await; // the last fill is let go
                }
                assert_eq!(running.load(Ordering::SeqCst), 0, "seed {seed}: one fill at a time");
            });
        }
    }
}
