//! Remembers a 404 for a moment, so that many anonymous callers that ask for the same are answered by one.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::config::MISSING_FOR;
use super::rights::place::Place;
use super::rights::principal::Principal;
use super::source::{Fault, Said};

/// So many 404s at most: each keeps the registry's words, up to 64 KiB.
const MISSING_LIMIT: u64 = 1000;

/// What was not there a moment ago, by place. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct Missing<K>(moka::sync::Cache<(Place, K), (Instant, Fault)>);

impl<K: Eq + Hash + Send + Sync + 'static> Missing<K> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(MISSING_LIMIT).time_to_live(MISSING_FOR).build())
    }

    /// The 404 of a moment ago, if it is believed for `life`. Only anonymous callers share it.
    pub(crate) fn known(&self, caller: &Caller, key: K, life: Duration) -> Option<Fault> {
        if caller.principal != Principal::Anonymous || life.is_zero() {
            return None;
        }
        self.0.get(&(caller.place.clone(), key)).filter(|(noted, _)| noted.elapsed() < life).map(|(_, fault)| fault)
    }

    /// Notes `fault`, if it is a 404 to an anonymous caller and is believed at all.
    pub(crate) fn note(&self, caller: &Caller, key: K, life: Duration, fault: &Fault) {
        if caller.principal == Principal::Anonymous && fault.said == Said::Missing && !life.is_zero() {
            self.0.insert((caller.place.clone(), key), (Instant::now(), fault.clone()));
        }
    }

    /// It is there.
    pub(crate) fn forget(&self, place: &Place, key: K) {
        self.0.invalidate(&(place.clone(), key));
    }

    /// Anything may be there now.
    pub(crate) fn forget_all(&self) {
        self.0.invalidate_all();
    }
}
