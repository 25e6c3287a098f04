//! Gives connections beyond the limit, or at their end, a place for a moment, at the cost of the client that has most of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Those that are there, in the order in which they came.
#[derive(Default)]
pub(crate) struct WaitingList(Mutex<Vec<(IpAddr, CancellationToken)>>);

/// One's place, given back when it is dropped.
pub(crate) struct Waiting {
    waiting_list: Arc<WaitingList>,
    left: CancellationToken,
}

impl WaitingList {
    /// A place among `most`.
    pub(crate) fn enter(self: &Arc<Self>, network: IpAddr, most: usize) -> Waiting {
        let left = CancellationToken::new();
        let mut list = self.list();
        list.push((network, left.clone()));
        while list.len() > most.max(1) {
            let mut counts: HashMap<IpAddr, usize> = HashMap::new();
            list.iter().for_each(|(of, _)| *counts.entry(*of).or_default() += 1);
            let largest = counts.values().copied().max().unwrap_or_default();
            let earliest = list.iter().position(|(of, _)| counts.get(of) == Some(&largest)).unwrap_or_default();
            list.remove(earliest).1.cancel();
        }
        drop(list);
        Waiting { waiting_list: self.clone(), left }
    }

    fn list(&self) -> MutexGuard<'_, Vec<(IpAddr, CancellationToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Cancelled when another one has taken the place.
    pub(crate) fn left(&self) -> &CancellationToken {
        &self.left
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.left.cancel();
        self.waiting_list.list().retain(|(_, left)| !left.is_cancelled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_takes_the_place_of_the_earliest_of_those_who_have_most() {
        let waiting_list = Arc::new(WaitingList::default());
        let [one, two, probe] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let enter = |network| waiting_list.enter(network, 4);
        let first = [enter(one), enter(two), enter(one), enter(one)];
        let probes = [enter(probe), enter(two), enter(one)];
        let closed = |list: &[Waiting]| list.iter().map(|waiting| waiting.left().is_cancelled()).collect::<Vec<_>>();
        assert_eq!(closed(&first), [true, true, true, false]);
        assert_eq!(closed(&probes), [false, false, false], "who asks once stays");
        drop((first, probes));
        assert!(waiting_list.list().is_empty());
    }
}
