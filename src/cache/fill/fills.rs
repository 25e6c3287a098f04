//! The fills under way, joined for each digest and registry.
//!
//! Only callers of the same registry share a fill: another registry could feed them bytes that were never
//! verified. What is committed is shared by all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::fill::{Fill, Lead, NotAsked};
use super::guest::Guest;
use super::{FillConfig, pilot};
use crate::cache::{Caller, Fault};
use crate::oci::Digest;
use crate::store::{self, Blob, Store};
use crate::telemetry::Metrics;

/// All fills under way.
#[derive(Clone)]
pub struct Fills {
    store: Store,
    metrics: Metrics,
    config: FillConfig,
    by: Arc<Mutex<HashMap<Key, Slot>>>,
    is_closed: Arc<AtomicBool>,
}

/// What a fill is of, and from which registry.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key(Digest, Arc<str>);

/// A fill, or what is left of it while its file is put away.
struct Slot {
    fill: Option<Arc<Fill>>,
    gone: watch::Receiver<()>,
}

/// What entering found.
pub enum Entered {
    /// It is in the store meanwhile.
    Stored(Blob),
    /// A new fill was started with the caller's source.
    Leads(Guest, Opening),
    /// Joined a fill, to which the same caller's source already belongs.
    SameLead(Guest, Opening),
    /// A fill is under way, and was joined.
    UnderWay(Guest),
    /// One is just ending without content: enter again after it.
    Leaving(Leaving),
}

/// How the caller's own source opens: its proof that it may read.
#[derive(Clone)]
pub struct Opening(watch::Receiver<Option<Result<(), Fault>>>);

/// The end of a fill that is to be waited for.
pub struct Leaving(watch::Receiver<()>);

impl Opening {
    /// Waits for the outcome. Cancel-safe.
    ///
    /// # Errors
    /// What the source answered instead of bytes.
    pub async fn outcome(mut self) -> Result<(), Fault> {
        match self.0.wait_for(Option::is_some).await.map(|seen| seen.clone()) {
            Ok(Some(outcome)) => outcome,
            // The fill ended before it needed this source: nothing was proven, and nothing refused.
            _ => Err(Fault::new(crate::cache::Retry::Again, NotAsked)),
        }
    }
}

impl Leaving {
    /// Waits until it is gone. Cancel-safe.
    pub async fn gone(mut self) {
        while self.0.changed().await.is_ok() {} // its sender is dropped in the end, and never sends
    }
}

impl Fills {
    /// Nothing under way.
    #[must_use]
    pub fn new(store: Store, config: FillConfig, metrics: Metrics) -> Self {
        Self { store, metrics, config, by: Arc::default(), is_closed: Arc::default() }
    }

    /// Joins the fill of `digest` at the caller's registry, or starts it, where an earlier one stopped if there
    /// was one. With `permitted`, the caller's source is added to a fill under way, so that it can continue it.
    /// `takes_stored` says, when no fill is under way, whether the caller may have what is stored; else this
    /// registry has to deliver it itself.
    ///
    /// # Errors
    /// The store cannot stage a file: the content can still be passed on without storing it.
    pub fn enter(
        &self,
        digest: &Digest,
        caller: &Caller,
        permitted: bool,
        takes_stored: impl Fn() -> bool,
    ) -> Result<Entered, store::Error> {
        let key = Key(*digest, caller.place.registry.clone());
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&key) {
            let joined = slot.fill.as_ref().and_then(|fill| Some((fill, Guest::of(fill, caller)?)));
            let Some((fill, guest)) = joined else { return Ok(Entered::Leaving(Leaving(slot.gone.clone()))) };
            if let Some(lead) = fill.lead_of(caller) {
                return Ok(Entered::SameLead(guest, Opening(lead.opened.subscribe())));
            }
            if permitted {
                fill.add(Lead::of(caller));
            }
            return Ok(Entered::UnderWay(guest));
        }
        // Look again: a fill leaves this map only after its blob is in the store.
        if takes_stored()
            && let Ok(Some(blob)) = self.store.read(digest)
        {
            return Ok(Entered::Stored(blob));
        }
        if self.is_closed.load(Ordering::Acquire) {
            return Err(store::Error::Closed);
        }
        let lead = Lead::of(caller);
        let opening = Opening(lead.opened.subscribe());
        let fill = Arc::new(self.begin(digest, lead)?);
        let Some(guest) = Guest::of(&fill, caller) else { return Err(store::Error::Closed) }; // it has just begun
        let (gone, is_gone) = watch::channel(());
        slots.insert(key.clone(), Slot { fill: Some(fill.clone()), gone: is_gone });
        drop(slots);
        tokio::spawn(self.clone().attend(key, fill, gone));
        Ok(Entered::Leads(guest, opening))
    }

    fn begin(&self, digest: &Digest, lead: Lead) -> Result<Fill, store::Error> {
        let registry = lead.caller.place.registry.clone();
        match self.store.resume(digest, &registry) {
            Ok(Some(partial)) => return Ok(Fill::resumed(partial, lead)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%digest, %error, "what had landed of a fill cannot be taken up again"),
        }
        Ok(Fill::new(self.store.stage_from(digest, &registry)?, lead))
    }

    /// Sees a fill through. Its file is let go before the next one of the same content may begin.
    async fn attend(self, key: Key, fill: Arc<Fill>, gone: watch::Sender<()>) {
        pilot::run(fill.clone(), self.config, self.metrics.clone()).await;
        if let Some(slot) = self.slots().get_mut(&key) {
            slot.fill = None;
        }
        drop(fill);
        self.slots().remove(&key);
        drop(gone);
    }

    /// Parks everything that is under way, as at the end of the process, and waits until it is put away.
    pub async fn put_away(&self) {
        self.is_closed.store(true, Ordering::Release);
        loop {
            let leaving: Vec<Leaving> = {
                let slots = self.slots();
                slots.values().filter_map(|slot| slot.fill.as_ref()).for_each(|fill| fill.send_away());
                slots.values().map(|slot| Leaving(slot.gone.clone())).collect()
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
        self.slots().values().filter_map(|slot| slot.fill.as_ref()).for_each(|fill| fill.doubt(caller));
    }

    /// Whether one of `digest` is under way at `registry`.
    #[must_use]
    pub fn has(&self, digest: &Digest, registry: &Arc<str>) -> bool {
        self.slots().contains_key(&Key(*digest, registry.clone()))
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
