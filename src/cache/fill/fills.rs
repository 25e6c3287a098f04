//! The fills in progress: callers of the same content and registry join one fill.
//!
//! Only callers of the same registry share a fill: another registry could feed them bytes that were never
//! verified. What is committed is shared by all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::watch;

use super::FillConfig;
use super::permit::{FillContext, Permit};
use super::reader::waiter::Waiter;
use super::slots::{Key, Slot, SlotChange, Slots};
use super::sources::{FillSource, Opening};
use super::status::Ending;
use crate::cache::Caller;
use crate::host::TaskGroup;
use crate::oci::Digest;
use crate::store::{self, Blob, Store};
use crate::telemetry::Metrics;

/// So long, and of so many contents, it is remembered who lied.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
const REMEMBERED: u64 = 1024;

/// All fills under way.
#[derive(Clone)]
pub struct Fills {
    pub(crate) context: FillContext,
    is_closed: Arc<AtomicBool>,
}

/// What joining found.
pub(crate) enum Joined {
    Entered(Entered),
    /// Nobody is there.
    Alone(Permit),
}

/// What entering found.
pub enum Entered {
    /// It is in the store meanwhile.
    Stored(Blob),
    /// A new fill was started with the caller's source.
    Started(Waiter, Opening),
    /// Joined a fill, to which the same caller's source already belongs.
    SameSource(Waiter, Opening),
    /// A fill is under way, and was joined.
    UnderWay(Waiter),
    /// One is just beginning, or ending without content: enter again after that.
    Leaving(SlotChange),
}

impl Fills {
    /// Nothing under way. The fills are among `tasks`.
    #[must_use]
    pub fn new(store: Store, config: FillConfig, metrics: Metrics, tasks: TaskGroup) -> Self {
        let liars = Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build();
        let context = FillContext { store, metrics, config, liars, slots: Slots::default(), tasks };
        Self { context, is_closed: Arc::default() }
    }

    /// Joins the fill of `digest` at the caller's registry, or starts it, where an earlier one stopped if there
    /// was one. With `permitted`, the caller's source is added to a fill under way, so that it can continue it.
    /// `takes_stored` says, when no fill is under way, whether the caller may have what is stored; else this
    /// registry has to deliver it itself. What `heed` makes of a new fill's beginning and end is done before the
    /// fill is over.
    ///
    /// Cancel-safe: what was begun goes on.
    ///
    /// # Errors
    /// The store cannot stage a file: the content can still be passed on without storing it.
    pub async fn enter<F, H>(
        &self,
        digest: &Digest,
        caller: &Caller,
        permitted: bool,
        takes_stored: impl Fn() -> bool,
        heed: F,
    ) -> Result<Entered, store::Error>
    where
        F: FnOnce(Ending, Opening) -> H + Send + 'static,
        H: Future<Output = ()> + Send + 'static,
    {
        if self.context.store.is_hanging() {
            return Err(self.context.store.hanging());
        }
        let permit = match self.join(digest, caller, permitted) {
            Joined::Entered(entered) => return Ok(entered),
            Joined::Alone(permit) => permit,
        };
        // Look again: a fill leaves the map only after its blob is in the store.
        if takes_stored()
            && let Ok(Some(blob)) = self.context.store.look(digest).await
        {
            return Ok(Entered::Stored(blob));
        }
        if self.is_closed.load(Ordering::Acquire) {
            return Err(store::Error::Closed);
        }
        // Off the network task, and of its own: a caller that leaves must not take the file half opened with it.
        let (digest, source) = (*digest, FillSource::of(caller));
        let (store, begin) = (self.context.store.clone(), move || permit.begin(&digest, source, heed));
        let begun =
            self.context.tasks.spawn(async move { store.patiently("begin a download in", move |_| begin()).await });
        let (waiter, opening) = begun.await.unwrap_or(Err(store::Error::Closed))?;
        Ok(Entered::Started(waiter, opening))
    }

    /// Joins what is under way; else takes the place of the one fill that may be. Never waits for the disk.
    pub(crate) fn join(&self, digest: &Digest, caller: &Caller, permitted: bool) -> Joined {
        let key = Key(*digest, caller.place.registry.clone());
        let mut slots = self.context.slots.lock();
        let Some(slot) = slots.get(&key) else {
            let (gone, is_gone) = watch::channel(());
            slots.insert(key.clone(), Slot { fill: None, gone: is_gone });
            drop(slots);
            return Joined::Alone(Permit { context: self.context.clone(), key, gone });
        };
        let joined = slot.fill.as_ref().and_then(|fill| Some((fill, Waiter::of(fill, caller)?)));
        let Some((fill, waiter)) = joined else { return Joined::Entered(Entered::Leaving(slot.change())) };
        // While the registry is away, asking anew would only fail.
        if !caller.source.is_away() {
            fill.silence().hurry(caller.source.fresh_since());
        }
        if let Some(source) = fill.sources().of(caller) {
            return Joined::Entered(Entered::SameSource(waiter, source.opening()));
        }
        if permitted {
            fill.sources().add(FillSource::of(caller));
        }
        Joined::Entered(Entered::UnderWay(waiter))
    }

    /// Waits until the disk hangs.
    pub(crate) async fn hang(&self) {
        self.context.store.hang().await;
    }

    /// Parks everything that is under way, as at the end of the process, and waits until it is put away.
    pub async fn put_away(&self) {
        self.is_closed.store(true, Ordering::Release);
        loop {
            let leaving: Vec<SlotChange> = {
                let slots = self.context.slots.lock();
                slots.values().filter_map(|slot| slot.fill.as_ref()).for_each(|fill| fill.send_away());
                slots.values().map(Slot::change).collect()
            };
            if leaving.is_empty() {
                return;
            }
            for fill in leaving {
                fill.gone().await;
            }
        }
    }

    /// The registry has refused `caller`: what its sources proved in fills under way proves nothing any more.
    pub fn doubt(&self, caller: &Caller) {
        self.context
            .slots
            .lock()
            .values()
            .filter_map(|slot| slot.fill.as_ref())
            .for_each(|fill| fill.sources().doubt(caller));
    }

    /// Whether one of `digest` is under way at `registry`.
    #[must_use]
    pub fn has(&self, digest: &Digest, registry: &Arc<str>) -> bool {
        self.context.slots.lock().contains_key(&Key(*digest, registry.clone()))
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.context.slots.lock().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
