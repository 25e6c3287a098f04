//! The fills under way, joined for each digest and registry.
//!
//! Only callers of the same registry share a fill: another registry could feed them bytes that were never
//! verified. What is committed is shared by all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::fill::{Fill, Lead, NotAsked};
use super::pilot;
use crate::cache::{Caller, Fault};
use crate::oci::Digest;
use crate::store::{self, Blob, Store};
use crate::telemetry::Metrics;

/// All fills under way.
#[derive(Clone)]
pub struct Fills {
    store: Store,
    metrics: Metrics,
    by: Arc<Mutex<HashMap<(Digest, Arc<str>), Arc<Fill>>>>,
}

/// What entering found.
pub enum Entered {
    /// It is in the store meanwhile.
    Stored(Blob),
    /// A new fill was started with the caller's source.
    Leads(Arc<Fill>, Opening),
    /// Joined a fill, to which the same caller's source already belongs.
    SameLead(Arc<Fill>, Opening),
    /// A fill is under way. The caller has joined it, if `permitted` was said.
    UnderWay(Arc<Fill>),
}

/// How the caller's own source opens: its proof that it may read.
#[derive(Clone)]
pub struct Opening(watch::Receiver<Option<Result<(), Fault>>>);

impl Opening {
    /// Whether the outcome is there already.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.borrow().is_some()
    }

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

impl Fills {
    /// Nothing under way.
    #[must_use]
    pub fn new(store: Store, metrics: Metrics) -> Self {
        Self { store, metrics, by: Arc::default() }
    }

    /// Joins the fill of `digest` at the caller's registry, or starts it. With `permitted`, the caller's
    /// source is added to a fill under way, so that it can continue it. `takes_stored` says, when no fill is
    /// under way, whether the caller may have what is stored; else this registry has to deliver it itself.
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
        let key = (*digest, caller.place.registry.clone());
        let mut fills = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fill) = fills.get(&key).filter(|fill| !fill.is_broken()) {
            if let Some(lead) = fill.lead_of(caller) {
                return Ok(Entered::SameLead(fill.clone(), Opening(lead.opened.subscribe())));
            }
            if permitted {
                fill.add(Lead::of(caller));
            }
            return Ok(Entered::UnderWay(fill.clone()));
        }
        // Look again: a fill leaves this map only after its blob is in the store.
        if takes_stored()
            && let Ok(Some(blob)) = self.store.read(digest)
        {
            return Ok(Entered::Stored(blob));
        }
        let lead = Lead::of(caller);
        let opening = Opening(lead.opened.subscribe());
        let fill = Arc::new(Fill::new(*digest, self.store.stage(digest)?, lead));
        fills.insert(key.clone(), fill.clone());
        drop(fills);
        let (fills, metrics, piloted) = (self.by.clone(), self.metrics.clone(), fill.clone());
        tokio::spawn(async move {
            pilot::run(piloted.clone(), metrics).await;
            let mut fills = fills.lock().unwrap_or_else(PoisonError::into_inner);
            if fills.get(&key).is_some_and(|present| Arc::ptr_eq(present, &piloted)) {
                fills.remove(&key); // a broken one may have been followed by another already
            }
        });
        Ok(Entered::Leads(fill, opening))
    }
}

impl Lead {
    fn of(caller: &Caller) -> Self {
        Self { caller: caller.clone(), opened: watch::Sender::new(None) }
    }
}
