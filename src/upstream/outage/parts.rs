//! What is known of the parts of one registry.

use std::collections::HashMap;

use super::hosts::Hosts;
use super::part::Part;
use super::realms::Realms;
use super::ward::{Phase, Ward};
use crate::oci::Authority;
use crate::upstream::Endpoint;

/// So many hosts beside the registry itself are watched at a time: it chooses where it redirects.
const CAPACITY: usize = 64;

/// What those who wait have to know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) home: Phase,
    pub(crate) realm_away: bool,
    /// Whether a probe asks whether the registry or its token service is silent.
    pub(crate) held: bool,
}

impl Standing {
    pub(crate) fn is_home_away(&self) -> bool {
        self.home == Phase::Away
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) hosts: Hosts,
    pub(crate) realms: Realms,
    pub(crate) home: Ward,
    /// The endpoints that have failed since one of them answered.
    pub(crate) down: Vec<Endpoint>,
    others: HashMap<Authority, (Part, Ward)>,
}

impl State {
    /// All of them are there.
    pub(crate) fn new() -> Self {
        Self {
            hosts: Hosts::default(),
            realms: Realms::default(),
            home: Ward::new(),
            down: Vec::new(),
            others: HashMap::new(),
        }
    }

    pub(crate) fn ward(&mut self, host: &Authority, is_home: bool) -> Option<&mut Ward> {
        if is_home { Some(&mut self.home) } else { self.others.get_mut(host).map(|(_, ward)| ward) }
    }

    pub(crate) fn ward_of(&mut self, part: &Part) -> Option<&mut Ward> {
        match part.host() {
            None => Some(&mut self.home),
            Some(host) => self.others.get_mut(host).map(|(_, ward)| ward),
        }
    }

    /// The ward of a part beside the registry itself. `None` where too many others are away.
    pub(crate) fn watch(&mut self, part: &Part, host: &Authority) -> Option<&mut Ward> {
        if self.others.len() >= CAPACITY && !self.others.contains_key(host) {
            self.others.retain(|_, (_, ward)| ward.phase != Phase::Well);
            if self.others.len() >= CAPACITY {
                return None;
            }
        }
        let (known, ward) = self.others.entry(host.clone()).or_insert_with(|| (part.clone(), Ward::new()));
        if ward.phase == Phase::Well {
            *known = part.clone();
        }
        Some(ward)
    }

    pub(crate) fn realms_watched(&self) -> impl Iterator<Item = &Ward> {
        self.others.values().filter(|(part, _)| matches!(part, Part::Realm(_))).map(|(_, ward)| ward)
    }

    /// Whether with `host` the last of `homes` is down.
    pub(crate) fn are_all_down(&mut self, homes: &[Endpoint], host: &Authority) -> bool {
        let failed = homes.iter().filter(|home| home.authority() == host && !self.down.contains(home));
        let failed: Vec<Endpoint> = failed.cloned().collect();
        self.down.extend(failed);
        homes.iter().all(|home| self.down.contains(home))
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            home: self.home.phase,
            realm_away: self.realms_watched().any(|ward| ward.phase == Phase::Away),
            held: self.home.is_held() || self.realms_watched().any(Ward::is_held),
        }
    }
}
