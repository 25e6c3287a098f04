//! The fills under way, joined for each digest and registry.
//!
//! Only callers of the same registry share a fill: another registry could feed them bytes that were never
//! verified. What is committed is shared by all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::fill::{Fill, Lead};
use super::pilot;
use crate::cache::{Fault, Place, Principal, Source};
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

/// A fill ended before the caller's source was asked.
#[derive(Debug, thiserror::Error)]
#[error("the fill ended before this caller's own request was made")]
struct NotAsked;

impl Fills {
    /// Nothing under way.
    #[must_use]
    pub fn new(store: Store, metrics: Metrics) -> Self {
        Self { store, metrics, by: Arc::default() }
    }

    /// Joins the fill of `digest` at the caller's registry, or starts it. With `permitted`, the caller's
    /// source is added to a fill under way, so that it can continue it. With `anew`, what is stored does not
    /// count: this registry has to deliver it itself.
    ///
    /// # Errors
    /// The store cannot stage a file: the content can still be passed on without storing it.
    pub fn enter(
        &self,
        digest: &Digest,
        place: &Place,
        principal: &Principal,
        permitted: bool,
        anew: bool,
        source: Arc<dyn Source>,
    ) -> Result<Entered, store::Error> {
        let key = (*digest, place.registry.clone());
        let mut fills = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fill) = fills.get(&key).filter(|fill| !fill.is_broken()) {
            if let Some(lead) = fill.lead_of(place, principal) {
                return Ok(Entered::SameLead(fill.clone(), Opening(lead.opened.subscribe())));
            }
            if permitted {
                fill.add(lead(place, principal, source));
            }
            return Ok(Entered::UnderWay(fill.clone()));
        }
        // Look again: a fill leaves this map only after its blob is in the store.
        if !anew && let Ok(Some(blob)) = self.store.read(digest) {
            return Ok(Entered::Stored(blob));
        }
        let lead = lead(place, principal, source);
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

    /// The fill of `digest` that is under way at `registry`, if there is one.
    #[must_use]
    pub fn under_way(&self, digest: &Digest, registry: &Arc<str>) -> Option<Arc<Fill>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner).get(&(*digest, registry.clone())).cloned()
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn lead(place: &Place, principal: &Principal, source: Arc<dyn Source>) -> Lead {
    Lead { place: place.clone(), principal: principal.clone(), source, opened: watch::Sender::new(None) }
}
