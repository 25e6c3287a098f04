//! Keeps the outages of one configured registry: one for each name that it has in the cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::upstream::Outage;

/// At most so many are remembered: under a pattern, clients choose the hosts.
const LIMIT: usize = 1024;

/// The outages by origin.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by: HashMap<Arc<str>, (Outage, u64)>,
    uses: u64,
}

impl Outages {
    /// The state of `origin`; a new one is what `make` makes.
    pub(crate) fn of(&self, origin: &Arc<str>, make: impl FnOnce() -> Outage) -> Outage {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.uses += 1;
        let now = known.uses;
        if let Some((outage, used)) = known.by.get_mut(origin) {
            *used = now;
            return outage.clone();
        }
        if known.by.len() >= LIMIT {
            // Open or not: hosts that are made up never come back. Its probe ends with it.
            let oldest = known.by.iter().min_by_key(|(_, (_, used))| *used).map(|(origin, _)| origin.clone());
            oldest.and_then(|origin| known.by.remove(&origin));
        }
        let outage = make();
        known.by.insert(origin.clone(), (outage.clone(), now));
        outage
    }
}

impl Outages {
    /// The origins that are away, or were so before a reload and have not been found since.
    pub(crate) fn away(&self) -> Vec<(Arc<str>, Outage)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = known.by.iter().map(|(origin, (outage, _))| (origin.clone(), outage.clone()));
        all.filter(|(_, outage)| outage.is_home_missing()).collect()
    }

    /// Whether any of them is as `is` says.
    pub(crate) fn any(&self, is: impl Fn(&str, &Outage) -> bool) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.by.iter().any(|(origin, (outage, _))| is(origin, outage))
    }

    /// The unreachable hosts of `origin`, in words.
    pub(crate) fn words(&self, origin: &str) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.by.get(origin).map(|(outage, _)| outage.words()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_has_one_state_and_no_number_of_them_fills_the_memory() {
        let (outages, made) = (Outages::default(), std::cell::Cell::new(0));
        let make = || {
            made.set(made.get() + 1);
            Outage::new(Vec::new(), Vec::new())
        };
        for _ in 0..3 {
            outages.of(&"quay.io".into(), make);
        }
        assert_eq!(made.get(), 1);
        for number in 0..2 * LIMIT {
            outages.of(&format!("h{number}").into(), make);
        }
        assert!(outages.0.lock().unwrap().by.len() <= LIMIT);
        let before = made.get();
        outages.of(&format!("h{}", 2 * LIMIT - 1).into(), make);
        assert_eq!(made.get(), before, "the latest one is remembered");
    }
}
