//! Tells clients and the log why a part of a registry is away: each reason once, and that it is back.

use std::sync::Arc;
use std::time::Duration;

use super::cause::OutageCause;
use super::part::OutagePart;
use super::state::Outage;
use super::ward::{Ward, WardPhase};
use crate::oci::Authority;
use crate::upstream::{Endpoint, Error};

impl Outage {
    /// The same, after `earlier` under another configuration: it is away for as long, and what the log has told of that
    /// is still to be taken back.
    #[must_use]
    pub(crate) fn after(self, earlier: &Self) -> Self {
        let (since, told) = {
            let earlier = earlier.state();
            (earlier.home.since, earlier.home.told)
        };
        let mut state = self.state();
        (state.home.since, state.home.told) = (since, told);
        drop(state);
        self
    }

    /// Whether the registry itself is away, or was so under an earlier configuration and has not been found since.
    #[must_use]
    pub fn is_home_missing(&self) -> bool {
        self.state().home.since.is_some()
    }

    /// The error of a request to `host` that is not sent, as it is away, or what it needs.
    #[must_use]
    pub fn away(&self, host: &Authority, retry_after: Duration) -> Error {
        Error::Away { to: host.clone(), why: self.why(host), retry_after }
    }

    /// Why `host`, or what it needs, is away, as clients may know it.
    #[must_use]
    pub fn why(&self, host: &Authority) -> Option<Arc<str>> {
        let is_home = self.is_home(host);
        let mut state = self.state();
        let why = |ward: &Ward| {
            Some(ward).filter(|ward| ward.phase == WardPhase::Away)?.why.as_ref().map(|why| why.words.clone())
        };
        why(&state.home).or_else(|| why(state.ward(host, is_home)?)).or_else(|| state.realms_watched().find_map(why))
    }

    /// Notes why a probe of `part` failed.
    pub(crate) fn explain(&self, part: &OutagePart, cause: OutageCause) {
        if let Some(ward) = self.state().ward_of(part) {
            ward.why = Some(cause);
        }
    }

    /// Notes that `part` has not answered within `wait`, unless more is known.
    pub(crate) fn presume_silence(&self, part: &OutagePart, wait: Duration) {
        let endpoint = match part {
            OutagePart::Home => self.homes().first().cloned(),
            OutagePart::Realm(endpoint) => Some(endpoint.clone()),
            OutagePart::Elsewhere(host) => Some(Endpoint::of_host(host)),
        };
        let mut state = self.state();
        if let (Some(ward), Some(endpoint)) = (state.ward_of(part), endpoint)
            && ward.why.is_none()
        {
            ward.why = Some(OutageCause::silence(&endpoint, wait));
        }
    }

    /// Why `part` is away, if the log has not told that reason yet. It counts as told then.
    pub(crate) fn tell(&self, part: &OutagePart) -> Option<OutageCause> {
        let mut state = self.state();
        let ward = state.ward_of(part)?;
        let why = ward.why.clone().filter(|why| !ward.told.is_some_and(|(told, _)| told.is_like(why.reason)))?;
        ward.told = Some((why.reason, ward.since.unwrap_or(ward.changed)));
        Some(why)
    }

    /// How long `part` was away, if the log has told that it is away, and not yet that it is back. It counts as told
    /// then.
    pub(crate) fn take_back(&self, part: &OutagePart) -> Option<Duration> {
        let mut state = self.state();
        let ward = state.ward_of(part).filter(|ward| ward.phase == WardPhase::Well)?;
        ward.told.take().map(|(_, since)| since.elapsed())
    }
}
