//! Judges how a fill's upstream failed: whether it is asked again, what it asks for, and what the log is told.

use std::sync::Arc;

use tracing::{info, warn};

use super::lane::Lane;
use crate::cache::fill::backoff::{Plea, Retries};
use crate::cache::fill::fill::Fill;
use crate::cache::{Fault, FaultKind, Place, Retry, Said};
use crate::telemetry::chain;

/// How often a refusal in the midst of a content is asked about again: some registries refuse by the status of something
/// that is absent what they only cannot serve just now.
const REFUSAL_TRIES: u32 = 5;

/// The last failure of a fill, and whose it was.
pub(crate) struct Last {
    pub(crate) fault: Fault,
    place: Option<Place>,
    endpoint: Option<Arc<str>>,
    /// How many there were.
    tries: u32,
}

impl Last {
    /// Before anything failed.
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, place: None, endpoint: None, tries: 0 }
    }

    /// One lane failed.
    pub(crate) fn note(&mut self, lane: &Lane, fault: Fault) {
        self.place = Some(lane.source.caller.place.clone());
        self.endpoint.clone_from(&lane.endpoint);
        (self.fault, self.tries) = (fault, self.tries + 1);
    }

    /// One line for an operator who follows a transfer.
    pub(crate) fn tell_of_another_try(&self, fill: &Fill) {
        let Self { fault, place, endpoint, .. } = self;
        let (registry, repository) =
            (place.as_ref().map(|place| &*place.registry), place.as_ref().map(|place| place.repository.as_str()));
        let (digest, endpoint, fault, at) = (fill.digest(), endpoint.as_deref(), chain(fault), fill.progress());
        if at == 0 {
            info!(registry, repository, %digest, endpoint, fault, "the upstream did not deliver the blob; asking again");
        } else {
            info!(registry, repository, %digest, endpoint, at, fault, "the transfer of a blob stopped; requesting the rest");
        }
    }

    /// One line for an operator who looks for the reason.
    pub(crate) fn tell(&self, fill: &Fill, words: &'static str) {
        let Self { fault, tries, place, endpoint } = self;
        warn!(
            registry = place.as_ref().map(|place| &*place.registry),
            repository = place.as_ref().map(|place| place.repository.as_str()),
            digest = %fill.digest(),
            endpoint = endpoint.as_deref(),
            landed = fill.progress(),
            tries,
            fault = chain(fault),
            "{words}"
        );
    }
}

/// What the upstream asks for by a failure. Before anything was delivered it is not waited for: its answer is for
/// the client, which may be told the same.
pub(crate) fn plea(fault: &Fault, fill: &Fill) -> Plea {
    if !fill.has_begun() {
        return Plea::default();
    }
    Plea { is_throttle: fault.kind == FaultKind::Throttle, retry_after: fault.retry_after }
}

/// Whether the source of a lane that failed is asked again for the rest. In the midst of a content a refusal is not the end
/// of it, unless somebody else can be asked.
pub(crate) fn may_do_better(lane: &Lane, fault: &Fault, retries: &Retries, fill: &Fill) -> bool {
    if retries.is_exhausted(fill.progress()) {
        return false;
    }
    if fault.retry == Retry::Again {
        return true;
    }
    if !fill.has_begun() {
        return false;
    }
    match fault.said {
        _ if fault.kind == FaultKind::Throttle => true,
        // Its credentials have expired: it is asked with what came since, and else not at all.
        Said::Denied | Said::Challenged => fill.sources().renew(&lane.source),
        Said::Missing | Said::Forbidden | Said::Refused => {
            retries.in_vain() < REFUSAL_TRIES && !fill.sources().has_another(&lane.source)
        }
        Said::Nothing => false,
    }
}

/// Whether the log is told that a fill is given up. A refusal is an answer like others, unless bytes came before it, also
/// one to a question in nobody's name, which says nothing of the caller; and that a registry is away is told once.
pub(crate) fn is_worth_a_line(lane: &Lane, fault: &Fault, fill: &Fill) -> bool {
    let progress = fill.progress();
    let is_denial = fault.retry == Retry::Never && lane.source.caller.is_reduced();
    match fault.said {
        _ if fill.has_begun() => true,
        Said::Nothing => progress > 0 || !(lane.source.caller.source.is_away() || is_denial),
        Said::Refused => progress > 0,
        Said::Missing | Said::Challenged | Said::Denied | Said::Forbidden => false,
    }
}
