//! Counts what one address has under way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::exceeded::Exceeded;
use super::totals::ClientTotals;
use crate::host::Count;
use crate::oci::Digest;

/// One address, or one network of IPv6.
pub(crate) struct Usage {
    pub(crate) address: IpAddr,
    pub(crate) totals: Arc<ClientTotals>,
    pub(crate) connections: Count,
    streams: Count,
    tunnels: Count,
    pub(crate) buffered: AtomicUsize,
    blobs: Mutex<HashMap<Digest, usize>>,
}

/// A connection to a host of a client's choice, given back when it is dropped.
pub(crate) struct Tunnel {
    of: Arc<Usage>,
    is_stream: bool,
}

impl Usage {
    pub(crate) fn new(address: IpAddr, totals: &Arc<ClientTotals>) -> Arc<Self> {
        Arc::new(Self {
            address,
            totals: totals.clone(),
            connections: Count::default(),
            streams: Count::default(),
            tunnels: Count::default(),
            buffered: 0.into(),
            blobs: Mutex::default(),
        })
    }

    /// Counts one more request; each must [`leave`](Self::leave).
    pub(crate) fn begin(&self) -> Result<(), Exceeded> {
        let each = self.totals.streams_each.load(Ordering::Relaxed);
        let most = self.totals.streams_most.load(Ordering::Relaxed);
        let refusal = if !self.streams.enter(each) {
            Exceeded::StreamsEach(each)
        } else if !self.totals.streams.enter(most) {
            self.streams.leave();
            Exceeded::Streams(most)
        } else {
            return Ok(());
        };
        Err(self.totals.refused(self.address, refusal))
    }

    pub(crate) fn leave(&self) {
        self.streams.leave();
        self.totals.streams.leave();
    }

    /// A connection to a host of its choice, which is a stream as well.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub(crate) fn tunnel(self: &Arc<Self>) -> Result<Tunnel, Exceeded> {
        self.begin()?;
        let tunnel = self.enter(true);
        if tunnel.is_err() {
            self.leave();
        }
        tunnel
    }

    /// A request under way that is passed on as it is, over a connection that its client may hold for as long as it
    /// likes: counted with the tunnels.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub(crate) fn relay(self: &Arc<Self>) -> Result<Tunnel, Exceeded> {
        self.enter(false)
    }

    fn enter(self: &Arc<Self>, is_stream: bool) -> Result<Tunnel, Exceeded> {
        let limits = self.totals.limits.load();
        let refusal = if !self.tunnels.enter(limits.tunnels_each) {
            Exceeded::TunnelsEach(limits.tunnels_each)
        } else if !self.totals.tunnels.enter(limits.tunnels) {
            self.tunnels.leave();
            Exceeded::Tunnels(limits.tunnels)
        } else {
            return Ok(Tunnel { of: self.clone(), is_stream });
        };
        Err(self.totals.refused(self.address, refusal))
    }

    /// It reads this blob once more; each time is to be [`closed`](Self::closed). Threat: one client reads as many
    /// blobs as files may be open.
    pub(crate) fn open(&self, blob: &Digest) -> Result<(), Exceeded> {
        let each = self.totals.limits.load().blobs_each;
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if blobs.len() >= each && !blobs.contains_key(blob) {
            drop(blobs);
            return Err(self.totals.refused(self.address, Exceeded::BlobsEach(each)));
        }
        *blobs.entry(*blob).or_default() += 1;
        Ok(())
    }

    pub(crate) fn closed(&self, blob: &Digest) {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut readers) = blobs.entry(*blob) {
            *readers.get_mut() -= 1;
            if *readers.get() == 0 {
                readers.remove();
            }
        }
    }

    /// Whether more waits for it than its share of the buffers.
    pub(crate) fn holds_its_share(&self) -> bool {
        self.buffered.load(Ordering::Relaxed) >= self.totals.buffers_each.load(Ordering::Relaxed)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.of.tunnels.leave();
        self.of.totals.tunnels.leave();
        if self.is_stream {
            self.of.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;
    use crate::proxy::limit::limiter::tests::{HERE, THERE, limits};
    use crate::proxy::limit::{Limiter, Limits};

    #[test]
    fn requests_and_tunnels_are_few_and_come_back() {
        let (streams, streams_each, tunnels, tunnels_each) = (5, 3, 2, 1);
        let limits = Limits { streams, streams_each, tunnels, tunnels_each, ..limits() };
        let clients = Limiter::new(limits);
        let [one, two, three] = [HERE, THERE, [10, 0, 0, 3]].map(|address| clients.of(address.into()));
        let tunnel = one.tunnel();
        assert_eq!(one.tunnel().err(), Some(Exceeded::TunnelsEach(1)));
        let other = two.tunnel();
        assert_eq!(three.tunnel().err(), Some(Exceeded::Tunnels(2)));
        assert_eq!(clients.usage()[1], (2, 5), "a tunnel is a request under way, and one refused is none");
        assert!(one.begin().is_ok() && one.begin().is_ok());
        assert_eq!(one.begin().err(), Some(Exceeded::StreamsEach(3)));
        assert!(two.begin().is_ok());
        assert_eq!(two.begin().err(), Some(Exceeded::Streams(5)));
        drop((tunnel, other));
        assert!(two.begin().is_ok() && one.tunnel().is_ok());
    }

    #[test]
    fn what_is_passed_on_counts_with_the_tunnels() {
        let clients = Limiter::new(Limits { tunnels: 2, tunnels_each: 1, ..limits() });
        let [one, two, three] = [HERE, THERE, [10, 0, 0, 3]].map(|address| clients.of(address.into()));
        let relay = one.relay();
        assert_eq!(one.relay().err(), Some(Exceeded::TunnelsEach(1)));
        let tunnel = two.tunnel();
        assert!(relay.is_ok() && tunnel.is_ok());
        assert_eq!(three.relay().err(), Some(Exceeded::Tunnels(2)));
        assert_eq!(clients.usage()[1].0, 1, "its request is counted already");
        drop((relay, tunnel));
        assert_eq!(clients.usage()[1].0, 0);
        assert!(three.relay().is_ok());
    }

    #[test]
    fn one_client_reads_so_many_blobs_each_as_often_as_it_likes() {
        let clients = Limiter::new(Limits { blobs_each: 2, ..limits() });
        let client = clients.of(HERE.into());
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(Algorithm::Sha256, bytes));
        assert!(client.open(&a).is_ok() && client.open(&b).is_ok() && client.open(&a).is_ok());
        assert_eq!(client.open(&c).err(), Some(Exceeded::BlobsEach(2)));
        client.closed(&a);
        assert!(client.open(&c).is_err(), "it is read once more");
        client.closed(&a);
        assert!(client.open(&c).is_ok());
    }

    #[test]
    fn a_reload_limits_what_is_new() {
        let clients = Limiter::new(limits());
        let client = clients.of(HERE.into());
        assert!(client.begin().is_ok());
        clients.adopt(Limits { streams_each: 1, ..limits() });
        assert_eq!(client.begin().err(), Some(Exceeded::StreamsEach(1)));
    }
}
