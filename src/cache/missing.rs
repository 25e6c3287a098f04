//! Remembers a 404 for a moment, so that many anonymous callers that ask for the same are answered by one.
//!
//! Those without any credentials and those with a token that anybody is given are told what each other's kind was told: to
//! some registries what is readable with such a token is not there without it.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::config::MISSING_FOR;
use super::rights::asked_at::AskedAt;
use super::rights::place::Place;
use super::rights::principal::Principal;
use super::source::{Fault, Said};

/// So many 404s at most: each keeps the registry's words, up to 64 KiB.
const MISSING_LIMIT: u64 = 1000;
const LASTING_LIMIT: u64 = 250;

/// What was not there a moment ago, by place. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct Missing<K> {
    faults: moka::sync::Cache<(Place, Principal, K), (Instant, Fault)>,
    /// When all was forgotten.
    forgotten: Arc<Mutex<Option<Instant>>>,
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Missing<K> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::of(MISSING_LIMIT, MISSING_FOR)
    }

    /// The same for few things, which are remembered for `longest`.
    pub(crate) fn lasting(longest: Duration) -> Self {
        Self::of(LASTING_LIMIT, longest)
    }

    fn of(most: u64, longest: Duration) -> Self {
        let faults = moka::sync::Cache::builder().max_capacity(most).time_to_live(longest).build();
        Self { faults, forgotten: Arc::default() }
    }

    /// The 404 of a moment ago, if it is believed for `life`. Only anonymous callers share it.
    pub(crate) fn known(&self, caller: &Caller, key: K, life: Duration) -> Option<Fault> {
        if !is_nobodys(caller) || life.is_zero() {
            return None;
        }
        self.faults
            .get(&(caller.place.clone(), caller.principal.clone(), key))
            .filter(|(noted, _)| noted.elapsed() < life)
            .map(|(_, fault)| fault)
    }

    /// Notes `fault`, if it is a 404 to an anonymous caller and is believed at all: not where it may have come since that was
    /// asked.
    pub(crate) fn note(&self, caller: &Caller, key: K, life: Duration, fault: &Fault, asked: AskedAt) {
        let forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        let is_later = forgotten.is_none_or(|forgotten| forgotten < asked.instant);
        if is_later && is_nobodys(caller) && fault.said == Said::Missing && !life.is_zero() {
            self.faults.insert((caller.place.clone(), caller.principal.clone(), key), (Instant::now(), fault.clone()));
        }
    }

    /// It is there.
    pub(crate) fn forget(&self, place: &Place, key: &K) {
        for principal in [Principal::Anonymous, Principal::Anybody] {
            self.faults.invalidate(&(place.clone(), principal, key.clone()));
        }
    }

    /// Anything may be there now.
    pub(crate) fn forget_all(&self) {
        *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.faults.invalidate_all();
    }
}

/// Whether it has no credentials of its own. A token whose time is over says nothing of others.
fn is_nobodys(caller: &Caller) -> bool {
    caller.principal.is_nobody() && !caller.trust.lapsed
}
