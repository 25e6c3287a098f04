//! The outages of one configured registry: one for each name that it has in the cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::upstream::Outage;

/// So many are remembered at most: under a pattern, clients choose the hosts.
const LIMIT: usize = 1024;

/// Who is away, by origin.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<HashMap<Arc<str>, Outage>>);

impl Outages {
    /// The state of `origin`; a new one is what `make` makes.
    pub(super) fn of(&self, origin: &Arc<str>, make: impl FnOnce() -> Outage) -> Outage {
        let mut by = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outage) = by.get(origin) {
            return outage.clone();
        }
        let outage = make();
        if by.len() >= LIMIT {
            by.retain(|_, outage| outage.is_open());
        }
        if by.len() < LIMIT {
            by.insert(origin.clone(), outage.clone());
        }
        outage
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
        assert!(outages.0.lock().unwrap().len() <= LIMIT);
    }
}
