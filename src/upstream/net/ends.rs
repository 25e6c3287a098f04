//! Knows the connections of this process by their own ends, so that one that a NAT leads back to it is recognised.
//!
//! Threat: a rule of iptables that redirects the proxy's connections too, each of which would make another one.
//! Bound: a set lookup for each connection to the transparent listener; an entry for each open connection to an upstream.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;

static ENDS: LazyLock<Mutex<HashSet<SocketAddr>>> = LazyLock::new(Mutex::default);

/// The near end of a connection, known while this lives.
#[derive(Debug)]
pub(crate) struct NearEnd(SocketAddr);

impl NearEnd {
    /// That of a connection on which nothing was sent yet.
    pub(crate) fn of(stream: &TcpStream) -> Option<Self> {
        let end = canonical(stream.local_addr().ok()?);
        ends().insert(end);
        Some(Self(end))
    }
}

impl Drop for NearEnd {
    fn drop(&mut self) {
        ends().remove(&self.0);
    }
}

/// Whether a connection that comes from there is one that this process has made itself. Sure once it has sent a byte.
#[must_use]
pub fn is_own_connection(peer: SocketAddr) -> bool {
    ends().contains(&canonical(peer))
}

fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

fn ends() -> MutexGuard<'static, HashSet<SocketAddr>> {
    ENDS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_known_by_its_near_end_until_it_is_dropped() {
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_accepted, peer) = listener.accept().await.unwrap();
        assert!(!is_own_connection(peer));
        let end = NearEnd::of(&stream);
        assert!(is_own_connection(peer));
        drop(end);
        assert!(!is_own_connection(peer));
    }
}
