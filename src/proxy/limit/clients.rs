//! The clients that have a connection, and what each of them has under way.
//!
//! Threat: one client, broken or ill-willed, takes all connections, requests, files or memory. Each is counted for its
//! address and in all; what is too much is refused, and that is said once a minute with the address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use tracing::warn;

use super::{Limits, Line, Refusal};
use crate::host::{Count, Seldom};
use crate::oci::Digest;

/// All clients.
pub(in crate::proxy) struct Clients {
    by: Mutex<HashMap<IpAddr, Arc<Client>>>,
    shared: Arc<Shared>,
}

/// What they have in common.
pub(super) struct Shared {
    pub(super) limits: ArcSwap<Limits>,
    connections: Count,
    lobby: Count,
    streams: Count,
    /// Read for each request, and so beside the limits.
    streams_most: AtomicUsize,
    streams_each: AtomicUsize,
    buffers_each: AtomicUsize,
    tunnels: Count,
    /// Milliseconds, as the sweep counts them.
    pub(super) now: AtomicU64,
    pub(super) lines: Mutex<Vec<Weak<Line>>>,
    refused: [(AtomicU64, Seldom); Refusal::LABELS.len()],
    /// Streams given up, and when that was said.
    pub(super) given_up: (AtomicU64, Seldom),
}

/// One address.
pub(in crate::proxy) struct Client {
    pub(super) address: IpAddr,
    pub(super) shared: Arc<Shared>,
    connections: Count,
    lobby: Count,
    streams: Count,
    tunnels: Count,
    pub(super) buffered: AtomicUsize,
    blobs: Mutex<HashMap<Digest, usize>>,
}

/// One connection's place, given back when it is dropped.
pub(in crate::proxy) struct Place {
    clients: Arc<Clients>,
    client: Arc<Client>,
    in_lobby: bool,
}

/// A connection to a host of a client's choice, given back when it is dropped.
pub(in crate::proxy) struct Tunnel(Arc<Client>);

impl Clients {
    pub(in crate::proxy) fn new(limits: Limits) -> Arc<Self> {
        let shared = Shared {
            limits: ArcSwap::from_pointee(limits),
            connections: Count::default(),
            lobby: Count::default(),
            streams: Count::default(),
            streams_most: limits.streams.into(),
            streams_each: limits.streams_each.into(),
            buffers_each: limits.buffers_each.into(),
            tunnels: Count::default(),
            now: 0.into(),
            lines: Mutex::default(),
            refused: Default::default(),
            given_up: Default::default(),
        };
        Arc::new(Self { by: Mutex::default(), shared: Arc::new(shared) })
    }

    /// Other limits from now on. What is under way goes on.
    pub(in crate::proxy) fn adopt(&self, limits: Limits) {
        let shared = &self.shared;
        shared.limits.store(Arc::new(limits));
        shared.streams_most.store(limits.streams, Ordering::Relaxed);
        shared.streams_each.store(limits.streams_each, Ordering::Relaxed);
        shared.buffers_each.store(limits.buffers_each, Ordering::Relaxed);
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

impl Shared {
    fn refused(&self, client: IpAddr, refusal: Refusal) -> Refusal {
        let (count, said) = &self.refused[refusal.place()];
        count.fetch_add(1, Ordering::Relaxed);
        if said.is_due() {
            warn!(%client, reason = refusal.label(), "refused, as is whatever exceeds the same limit: {refusal}");
        }
        refusal
    }
}

impl Client {
    fn new(address: IpAddr, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            address,
            shared: shared.clone(),
            connections: Count::default(),
            lobby: Count::default(),
            streams: Count::default(),
            tunnels: Count::default(),
            buffered: 0.into(),
            blobs: Mutex::default(),
        })
    }

    /// Where it comes from.
    pub(in crate::proxy) fn address(&self) -> IpAddr {
        self.address
    }

    /// One more request under way; each is to [`leave`](Self::leave).
    pub(super) fn begin(&self) -> Result<(), Refusal> {
        let each = self.shared.streams_each.load(Ordering::Relaxed);
        let most = self.shared.streams_most.load(Ordering::Relaxed);
        let refusal = if !self.streams.enter(each) {
            Refusal::StreamsEach(each)
        } else if !self.shared.streams.enter(most) {
            self.streams.leave();
            Refusal::Streams(most)
        } else {
            return Ok(());
        };
        Err(self.shared.refused(self.address, refusal))
    }

    pub(super) fn leave(&self) {
        self.streams.leave();
        self.shared.streams.leave();
    }

    /// A connection to a host of its choice, which is a stream as well.
    ///
    /// # Errors
    /// What there are too many of.
    pub(in crate::proxy) fn tunnel(self: &Arc<Self>) -> Result<Tunnel, Refusal> {
        let limits = self.shared.limits.load();
        self.begin()?;
        let refusal = if !self.tunnels.enter(limits.tunnels_each) {
            Refusal::TunnelsEach(limits.tunnels_each)
        } else if !self.shared.tunnels.enter(limits.tunnels) {
            self.tunnels.leave();
            Refusal::Tunnels(limits.tunnels)
        } else {
            return Ok(Tunnel(self.clone()));
        };
        self.leave();
        Err(self.shared.refused(self.address, refusal))
    }

    /// It reads this blob once more; each time is to be [`closed`](Self::closed). Threat: one client reads as many
    /// blobs as files may be open.
    pub(super) fn open(&self, blob: &Digest) -> Result<(), Refusal> {
        let each = self.shared.limits.load().blobs_each;
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if blobs.len() >= each && !blobs.contains_key(blob) {
            drop(blobs);
            return Err(self.shared.refused(self.address, Refusal::BlobsEach(each)));
        }
        *blobs.entry(*blob).or_default() += 1;
        Ok(())
    }

    pub(super) fn closed(&self, blob: &Digest) {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut readers) = blobs.entry(*blob) {
            *readers.get_mut() -= 1;
            if *readers.get() == 0 {
                readers.remove();
            }
        }
    }

    /// Whether more waits for it than its share of the buffers.
    pub(super) fn holds_its_share(&self) -> bool {
        self.buffered.load(Ordering::Relaxed) >= self.shared.buffers_each.load(Ordering::Relaxed)
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

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.tunnels.leave();
        self.0.shared.tunnels.leave();
        self.0.leave();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::host::Budget;
    use crate::oci::Algorithm;

    pub(in super::super) fn limits() -> Limits {
        Limits::new(&Budget::of(Some(4096), 1 << 30, None), None, None, None)
    }

    const HERE: [u8; 4] = [10, 0, 0, 1];
    const THERE: [u8; 4] = [10, 0, 0, 2];

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

    #[test]
    fn requests_and_tunnels_are_few_and_come_back() {
        let (streams, streams_each, tunnels, tunnels_each) = (5, 3, 2, 1);
        let limits = Limits { streams, streams_each, tunnels, tunnels_each, ..limits() };
        let clients = Clients::new(limits);
        let [one, two, three] = [HERE, THERE, [10, 0, 0, 3]].map(|address| clients.of(address.into()));
        let tunnel = one.tunnel();
        assert_eq!(one.tunnel().err(), Some(Refusal::TunnelsEach(1)));
        let other = two.tunnel();
        assert_eq!(three.tunnel().err(), Some(Refusal::Tunnels(2)));
        assert_eq!(clients.usage()[1], (2, 5), "a tunnel is a request under way, and one refused is none");
        assert!(one.begin().is_ok() && one.begin().is_ok());
        assert_eq!(one.begin().err(), Some(Refusal::StreamsEach(3)));
        assert!(two.begin().is_ok());
        assert_eq!(two.begin().err(), Some(Refusal::Streams(5)));
        drop((tunnel, other));
        assert!(two.begin().is_ok() && one.tunnel().is_ok());
    }

    #[test]
    fn one_client_reads_so_many_blobs_each_as_often_as_it_likes() {
        let clients = Clients::new(Limits { blobs_each: 2, ..limits() });
        let client = clients.of(HERE.into());
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(Algorithm::Sha256, bytes));
        assert!(client.open(&a).is_ok() && client.open(&b).is_ok() && client.open(&a).is_ok());
        assert_eq!(client.open(&c).err(), Some(Refusal::BlobsEach(2)));
        client.closed(&a);
        assert!(client.open(&c).is_err(), "it is read once more");
        client.closed(&a);
        assert!(client.open(&c).is_ok());
    }

    #[test]
    fn a_reload_limits_what_is_new() {
        let clients = Clients::new(limits());
        let client = clients.of(HERE.into());
        assert!(client.begin().is_ok());
        clients.adopt(Limits { streams_each: 1, ..limits() });
        assert_eq!(client.begin().err(), Some(Refusal::StreamsEach(1)));
    }
}
