//! How many connections may be open: in all, and from one address.
//!
//! Threat: one client, broken or ill-willed, opens connections until nobody else gets one. Each costs a descriptor
//! and some memory. One too many is closed before a byte of it is read, and that is said once a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

const SAY_EVERY: Duration = Duration::from_secs(60);

/// The most that may be open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrowdLimits {
    /// From all addresses together.
    pub all: usize,
    /// From one address.
    pub each: usize,
}

/// Counts what is open.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by: HashMap<IpAddr, usize>,
    said: Option<Instant>,
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    client: IpAddr,
}

impl Crowd {
    /// A place for a connection of `client`; `None` where there is none left.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, limits: CrowdLimits) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = open.by.get(&client).copied().unwrap_or(0);
        if open.all >= limits.all || mine >= limits.each {
            let now = Instant::now();
            if open.said.is_none_or(|said| now.duration_since(said) >= SAY_EVERY) {
                open.said = Some(now);
                let (of_all, of_each) = (limits.all, limits.each);
                warn!(
                    %client, open = open.all, from_this_client = mine, of_all, of_each,
                    "a connection was turned away: too many are open (clients.connections, clients.connections_each)"
                );
            }
            return None;
        }
        open.all += 1;
        *open.by.entry(client).or_default() += 1;
        Some(Place { crowd: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(mine) = open.by.get_mut(&self.client) {
            *mine -= 1;
            if *mine == 0 {
                open.by.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few_and_come_back() {
        let crowd = Arc::new(Crowd::default());
        let limits = CrowdLimits { all: 3, each: 2 };
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let enter = |client| crowd.enter(client, limits);
        let first = [enter(a), enter(a)];
        assert!(first.iter().all(Option::is_some) && enter(a).is_none(), "two from one address");
        let third = enter(b);
        assert!(third.is_some() && enter(b).is_none(), "three in all");
        drop(third);
        assert!(enter(b).is_some() && enter(a).is_none());
        drop(first);
        assert!(enter(a).is_some());
        assert!(crowd.0.lock().unwrap().by.is_empty(), "nothing is kept of those who left");
    }
}
