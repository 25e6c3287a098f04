//! Counts the connections of all clients, and makes room where few are left.
//!
//! Threat: one client, broken or ill-willed, takes all connections, requests, files or memory. Each is counted for its
//! address and in all; what is too much is refused, and that is said once a minute with the address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::connection::{Connection, ConnectionOrder};
use super::exceeded::Exceeded;
use super::settings::Limits;
use super::totals::ClientTotals;
use super::usage::Usage;
use super::waiting::{Waiting, WaitingList};
use crate::host::network;

/// So many connections that have ended are read on at a time.
const LINGERING: usize = 256;
/// Room is made at most this often.
const ROOM: Duration = Duration::from_millis(100);

/// The clients that have a connection.
pub(crate) struct Limiter {
    by: Mutex<HashMap<IpAddr, Arc<Usage>>>,
    totals: Arc<ClientTotals>,
    /// Their connections.
    connections: Mutex<Vec<Weak<Connection>>>,
    waiting_list: Arc<WaitingList>,
    lingering: Arc<WaitingList>,
    /// When room was made last.
    room: Mutex<Option<Instant>>,
}

/// One connection's permit, given back when it is dropped.
pub(crate) struct ConnectionPermit {
    clients: Arc<Limiter>,
    client: Arc<Usage>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            by: Mutex::default(),
            totals: Arc::new(ClientTotals::new(limits)),
            connections: Mutex::default(),
            waiting_list: Arc::default(),
            lingering: Arc::default(),
            room: Mutex::default(),
        })
    }

    /// Puts other limits in force. Requests in progress go on.
    pub(crate) fn adopt(&self, limits: Limits) {
        self.totals.adopt(limits);
    }

    /// A permit for a connection from `address`.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionPermit, Exceeded> {
        let limits = self.totals.limits.load();
        if self.totals.connections.now() + spare(limits.connections) >= limits.connections {
            self.make_room(limits.connections);
        }
        let address = network(address);
        let mut by = self.by();
        let client = by.entry(address).or_insert_with(|| Usage::new(address, &self.totals)).clone();
        let refusal = if !client.connections.enter(limits.connections_each) {
            Exceeded::ConnectionsEach(limits.connections_each)
        } else if !self.totals.connections.enter(limits.connections) {
            client.connections.leave();
            Exceeded::Connections(limits.connections)
        } else {
            return Ok(ConnectionPermit { clients: self.clone(), client });
        };
        forget(by.entry(address));
        drop(by);
        Err(self.totals.refused(address, refusal))
    }

    /// A place for a connection beyond the limit: there always is one.
    pub(crate) fn wait(&self, address: IpAddr) -> Waiting {
        self.waiting_list.enter(network(address), self.totals.limits.load().waiting_list)
    }

    /// A place for a connection that has ended on our side, or for a stream: there always is one.
    pub(crate) fn linger(&self, address: IpAddr) -> Waiting {
        self.lingering.enter(network(address), LINGERING)
    }

    /// A connection of `client`, which is looked after until it is dropped. `blocked` is true while nothing can be
    /// written to it.
    pub(crate) fn connection(&self, client: Arc<Usage>, blocked: Arc<AtomicBool>) -> Arc<Connection> {
        let connection = Arc::new(Connection::new(client, blocked));
        self.listed().push(Arc::downgrade(&connection));
        connection
    }

    /// The connections that are there.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        let mut listed = self.listed();
        listed.retain(|connection| connection.strong_count() > 0);
        listed.iter().filter_map(Weak::upgrade).collect()
    }

    fn listed(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks idle connections to end where few places are left: of the client that has most, those first that were idle longest.
    ///
    /// Threat: a few addresses open all connections that may be, and keep them open by answering pings.
    fn make_room(&self, most: usize) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if room.is_some_and(|made| made.elapsed() < ROOM) {
            return;
        }
        *room = Some(Instant::now());
        drop(room);
        let mut counts: HashMap<IpAddr, usize> =
            self.by().iter().map(|(network, client)| (*network, client.connections.now())).collect();
        let mut idle: HashMap<IpAddr, Vec<Arc<Connection>>> = HashMap::new();
        for connection in self.connections() {
            let network = connection.traffic.client.address;
            if connection.is_told(ConnectionOrder::Finish) {
                // It goes already.
                counts.entry(network).and_modify(|count| *count = count.saturating_sub(1));
            } else if connection.is_idle() {
                idle.entry(network).or_default().push(connection);
            }
        }
        // The latest to have moved stand first, so that they go last.
        idle.values_mut().for_each(|list| list.sort_by_key(|one| std::cmp::Reverse(one.traffic.moved())));
        let wanted = 2 * spare(most);
        let mut left = counts.values().sum::<usize>();
        while left + wanted > most {
            let largest = idle.iter().max_by_key(|(network, _)| counts.get(network).copied().unwrap_or_default());
            let Some(network) = largest.map(|(network, _)| *network) else { return };
            let Some(connection) = idle.get_mut(&network).and_then(Vec::pop) else {
                idle.remove(&network);
                continue;
            };
            connection.tell(ConnectionOrder::Finish);
            counts.entry(network).and_modify(|count| *count = count.saturating_sub(1));
            left = left.saturating_sub(1);
        }
    }

    /// The client at an address that has a connection.
    pub(crate) fn of(&self, address: IpAddr) -> Arc<Usage> {
        let address = network(address);
        let known = self.by().get(&address).cloned();
        known.unwrap_or_else(|| Usage::new(address, &self.totals))
    }

    /// How many connections there are and may be, and how many streams.
    pub(crate) fn usage(&self) -> [(usize, usize); 2] {
        let limits = self.totals.limits.load();
        [(self.totals.connections.now(), limits.connections), (self.totals.streams.now(), limits.streams)]
    }

    /// The limits because of which something was refused or given up, and how often.
    pub(crate) fn refused(&self) -> Vec<(&'static str, u64)> {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let refused = self.totals.refused.iter().map(|(refused, _)| count(refused));
        let given_up = ("stalled", count(&self.totals.given_up.0));
        Exceeded::LABELS.into_iter().zip(refused).chain([given_up]).collect()
    }

    /// Whether so many connections are open that each may have fewer streams.
    pub(crate) fn are_many(&self) -> bool {
        self.totals.connections.now() > self.totals.limits.load().connections / 8
    }

    pub(crate) fn totals(&self) -> &Arc<ClientTotals> {
        &self.totals
    }

    fn by(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Usage>>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many permits of `most` are kept free for new connections.
fn spare(most: usize) -> usize {
    (most / 16).clamp(1, 256)
}

/// Nothing is kept of an address without a connection.
fn forget(entry: Entry<'_, IpAddr, Arc<Usage>>) {
    if let Entry::Occupied(known) = entry
        && known.get().connections.now() == 0
    {
        known.remove();
    }
}

impl ConnectionPermit {
    /// Its client.
    pub(crate) fn client(&self) -> &Arc<Usage> {
        &self.client
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let (mut by, totals) = (self.clients.by(), &self.clients.totals);
        self.client.connections.leave();
        totals.connections.leave();
        forget(by.entry(self.client.address));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::host::Budget;

    pub(crate) fn limits() -> Limits {
        Limits::new(&Budget::of(Some(4096), 1 << 30, None), None, None, None)
    }

    pub(crate) const HERE: [u8; 4] = [10, 0, 0, 1];
    pub(crate) const THERE: [u8; 4] = [10, 0, 0, 2];

    #[test]
    fn connections_are_few_and_come_back() {
        let clients = Limiter::new(Limits { connections: 3, connections_each: 2, ..limits() });
        let enter = |address: [u8; 4]| clients.enter(address.into());
        let first = [enter(HERE), enter(HERE)];
        assert!(first.iter().all(Result::is_ok));
        assert_eq!(enter(HERE).err(), Some(Exceeded::ConnectionsEach(2)));
        let third = enter(THERE);
        assert!(third.is_ok());
        assert_eq!(enter(THERE).err(), Some(Exceeded::Connections(3)));
        drop(third);
        assert!(enter(THERE).is_ok() && enter(HERE).is_err());
        drop(first);
        assert!(enter(HERE).is_ok());
        assert!(clients.by().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn who_has_most_makes_room_with_what_is_idle() {
        let clients = Limiter::new(Limits { connections: 32, connections_each: 32, ..limits() });
        let enter = |address: [u8; 4]| clients.enter(address.into()).unwrap();
        let open = |place: &ConnectionPermit| clients.connection(place.client().clone(), Arc::default());
        let few: Vec<_> = (0..5).map(|_| enter(THERE)).collect();
        let many: Vec<_> = (0..24).map(|_| enter(HERE)).collect();
        let (of_few, of_many): (Vec<_>, Vec<_>) = (few.iter().map(open).collect(), many.iter().map(open).collect());
        let streams: Vec<_> = of_many[..20].iter().map(|connection| connection.open()).collect();
        let told = |list: &[Arc<Connection>]| list.iter().filter(|one| one.is_told(ConnectionOrder::Finish)).count();
        let next = enter(THERE);
        assert_eq!((told(&of_few), told(&of_many)), (0, 0), "there is room");
        let last = enter(THERE);
        assert_eq!((told(&of_few), told(&of_many)), (0, 2), "for twice as many as are kept free");
        assert_eq!(told(&of_many[..20]), 0, "what is under way goes on");
        drop((streams, next, last));
    }

    #[test]
    fn a_machine_with_a_network_of_ipv6_is_one_client() {
        let clients = Limiter::new(Limits { connections_each: 1, ..limits() });
        let enter = |address: &str| clients.enter(address.parse().unwrap());
        let first = enter("2001:db8:0:1::1");
        assert!(first.is_ok());
        assert_eq!(enter("2001:db8:0:1:ffff::2").err(), Some(Exceeded::ConnectionsEach(1)));
        assert!(enter("2001:db8:0:2::1").is_ok() && enter("::ffff:10.0.0.1").is_ok() && enter("10.0.0.2").is_ok());
    }
}
