//! The state of all parts of one registry.

use std::collections::HashMap;

use super::hosts::HostHistory;
use super::part::OutagePart;
use super::realms::Realms;
use super::ward::{Ward, WardPhase};
use crate::oci::Authority;
use crate::upstream::Endpoint;

/// So many hosts beside the registry itself are watched at a time: it chooses where it redirects.
const CAPACITY: usize = 64;

/// What those who wait have to know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutageStanding {
    pub(crate) home: WardPhase,
    pub(crate) realm_away: bool,
    /// Whether a probe asks whether the registry or its token service is silent.
    pub(crate) held: bool,
}

impl OutageStanding {
    pub(crate) fn is_home_away(&self) -> bool {
        self.home == WardPhase::Away
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) hosts: HostHistory,
    pub(crate) realms: Realms,
    pub(crate) home: Ward,
    /// The endpoints that have failed since one of them answered.
    pub(crate) down: Vec<Endpoint>,
    others: HashMap<Authority, (OutagePart, Ward)>,
}

impl State {
    /// All of them are there.
    pub(crate) fn new() -> Self {
        Self {
            hosts: HostHistory::default(),
            realms: Realms::default(),
            home: Ward::new(),
            down: Vec::new(),
            others: HashMap::new(),
        }
    }

    pub(crate) fn ward(&mut self, host: &Authority, is_home: bool) -> Option<&mut Ward> {
        if is_home { Some(&mut self.home) } else { self.others.get_mut(host).map(|(_, ward)| ward) }
    }

    pub(crate) fn ward_of(&mut self, part: &OutagePart) -> Option<&mut Ward> {
        match part.host() {
            None => Some(&mut self.home),
            Some(host) => self.others.get_mut(host).map(|(_, ward)| ward),
        }
    }

    /// The ward of a part beside the registry itself. `None` where too many others are away.
    pub(crate) fn watch(&mut self, part: &OutagePart, host: &Authority) -> Option<&mut Ward> {
        if self.others.len() >= CAPACITY && !self.others.contains_key(host) {
            self.others.retain(|_, (_, ward)| ward.phase != WardPhase::Well);
            if self.others.len() >= CAPACITY {
                return None;
            }
        }
        let (known, ward) = self.others.entry(host.clone()).or_insert_with(|| (part.clone(), Ward::new()));
        if ward.phase == WardPhase::Well {
            *known = part.clone();
        }
        Some(ward)
    }

    pub(crate) fn realms_watched(&self) -> impl Iterator<Item = &Ward> {
        self.others.values().filter(|(part, _)| matches!(part, OutagePart::Realm(_))).map(|(_, ward)| ward)
    }

    /// The hosts beside the registry itself that are away.
    pub(crate) fn others_away(&self) -> impl Iterator<Item = (&Authority, &Ward)> {
        let wards = self.others.iter().map(|(host, (_, ward))| (host, ward));
        wards.filter(|(_, ward)| ward.phase == WardPhase::Away)
    }

    /// Whether with `host` the last of `homes` is down.
    pub(crate) fn are_all_down(&mut self, homes: &[Endpoint], host: &Authority) -> bool {
        let failed = homes.iter().filter(|home| home.authority() == host && !self.down.contains(home));
        let failed: Vec<Endpoint> = failed.cloned().collect();
        self.down.extend(failed);
        homes.iter().all(|home| self.down.contains(home))
    }

    pub(crate) fn standing(&self) -> OutageStanding {
        OutageStanding {
            home: self.home.phase,
            realm_away: self.realms_watched().any(|ward| ward.phase == WardPhase::Away),
            held: self.home.is_held() || self.realms_watched().any(Ward::is_held),
        }
    }
}
