//! The clients that have a connection, and what each of them has under way.
//!
//! Threat: one client, broken or ill-willed, takes all connections, requests, files or memory. Each is counted for its
//! address and in all; what is too much is refused, and that is said once a minute with the address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::client::Client;
use super::shared::Shared;
use super::{Limits, Line, Refusal};

/// All clients.
pub(in crate::proxy) struct Clients {
    by: Mutex<HashMap<IpAddr, Arc<Client>>>,
    shared: Arc<Shared>,
    /// Their connections of HTTP/2.
    pub(super) lines: Mutex<Vec<Weak<Line>>>,
}

/// One connection's place, given back when it is dropped.
pub(in crate::proxy) struct Place {
    clients: Arc<Clients>,
    client: Arc<Client>,
    in_lobby: bool,
}

impl Clients {
    pub(in crate::proxy) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { by: Mutex::default(), shared: Arc::new(Shared::new(limits)), lines: Mutex::default() })
    }

    /// Other limits from now on. What is under way goes on.
    pub(in crate::proxy) fn adopt(&self, limits: Limits) {
        self.shared.adopt(limits);
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// What there are too many of.
    pub(in crate::proxy) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let limits = self.shared.limits.load();
        let mut by = self.by();
        let client = by.entry(address).or_insert_with(|| Client::new(address, &self.shared)).clone();
        let refusal = if !client.connections.enter(limits.connections_each) {
            Refusal::ConnectionsEach(limits.connections_each)
        } else if !self.shared.connections.enter(limits.connections) {
            client.connections.leave();
            Refusal::Connections(limits.connections)
        } else {
            return Ok(Place { clients: self.clone(), client, in_lobby: false });
        };
        forget(by.entry(address));
        drop(by);
        Err(self.shared.refused(address, refusal))
    }

    /// A place for one that is too many, if there is one left: one address leaves some to the others.
    pub(in crate::proxy) fn wait(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let most = self.shared.limits.load().lobby;
        let mut by = self.by();
        let client = by.entry(address).or_insert_with(|| Client::new(address, &self.shared)).clone();
        if client.lobby.enter((most / 4).max(1)) {
            if self.shared.lobby.enter(most) {
                return Some(Place { clients: self.clone(), client, in_lobby: true });
            }
            client.lobby.leave();
        }
        forget(by.entry(address));
        None
    }

    /// The client at an address that has a connection.
    pub(in crate::proxy) fn of(&self, address: IpAddr) -> Arc<Client> {
        let known = self.by().get(&address).cloned();
        known.unwrap_or_else(|| Client::new(address, &self.shared))
    }

    /// How many connections there are and may be, and how many streams.
    pub(in crate::proxy) fn usage(&self) -> [(usize, usize); 2] {
        let limits = self.shared.limits.load();
        [(self.shared.connections.now(), limits.connections), (self.shared.streams.now(), limits.streams)]
    }

    /// What was refused and given up: why, and how often.
    pub(in crate::proxy) fn refused(&self) -> Vec<(&'static str, u64)> {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let refused = self.shared.refused.iter().map(|(refused, _)| count(refused));
        let given_up = ("stalled", count(&self.shared.given_up.0));
        Refusal::LABELS.into_iter().zip(refused).chain([given_up]).collect()
    }

    /// Whether so many connections are open that each may have fewer streams.
    pub(in crate::proxy) fn are_many(&self) -> bool {
        self.shared.connections.now() > self.shared.limits.load().connections / 8
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn by(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Client>>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing is kept of an address without a connection.
fn forget(entry: Entry<'_, IpAddr, Arc<Client>>) {
    if let Entry::Occupied(known) = entry
        && known.get().connections.now() == 0
        && known.get().lobby.now() == 0
    {
        known.remove();
    }
}

impl Place {
    /// Whose it is.
    pub(in crate::proxy) fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (mut by, shared) = (self.clients.by(), &self.clients.shared);
        let (own, all) = match self.in_lobby {
            true => (&self.client.lobby, &shared.lobby),
            false => (&self.client.connections, &shared.connections),
        };
        own.leave();
        all.leave();
        forget(by.entry(self.client.address));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::host::Budget;

    pub(in super::super) fn limits() -> Limits {
        Limits::new(&Budget::of(Some(4096), 1 << 30, None), None, None, None)
    }

    pub(in super::super) const HERE: [u8; 4] = [10, 0, 0, 1];
    pub(in super::super) const THERE: [u8; 4] = [10, 0, 0, 2];

    #[test]
    fn connections_are_few_and_come_back() {
        let clients = Clients::new(Limits { connections: 3, connections_each: 2, ..limits() });
        let enter = |address: [u8; 4]| clients.enter(address.into());
        let first = [enter(HERE), enter(HERE)];
        assert!(first.iter().all(Result::is_ok));
        assert_eq!(enter(HERE).err(), Some(Refusal::ConnectionsEach(2)));
        let third = enter(THERE);
        assert!(third.is_ok());
        assert_eq!(enter(THERE).err(), Some(Refusal::Connections(3)));
        drop(third);
        assert!(enter(THERE).is_ok() && enter(HERE).is_err());
        drop(first);
        assert!(enter(HERE).is_ok());
        assert!(clients.by().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn the_lobby_has_room_for_another_address() {
        let clients = Clients::new(Limits { lobby: 8, connections: 0, ..limits() });
        let wait = |address: [u8; 4]| clients.wait(address.into());
        let waiting = [wait(HERE), wait(HERE)];
        assert!(waiting.iter().all(Option::is_some) && wait(HERE).is_none());
        assert!(wait(THERE).is_some());
        assert!(clients.enter(HERE.into()).is_err());
        drop(waiting);
        assert!(clients.by().is_empty() && clients.usage()[0] == (0, 0));
    }
}
