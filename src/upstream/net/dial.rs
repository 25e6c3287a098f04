//! Turns a host into a TCP connection: resolves it, judges every address, and dials the judged ones in a race.
//!
//! Never: resolve twice. What was judged is what is dialled.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::resolver::Resolver;
use super::rules::{AddressRules, Forbidden};
use crate::host::{self, LogThrottle};
use crate::oci::{Authority, Host};
use crate::upstream::{Error, Family, ResolveError};

/// The next address is dialled beside a slow one after so long (RFC 8305, "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Dead peers of idle connections are noticed by the system after about two minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) rules: AddressRules,
    pub(crate) family: Family,
    pub(crate) connect_timeout: Duration,
    /// Who is asked for names; none: the system.
    pub(crate) resolver: Option<Resolver>,
}

impl Dialer {
    /// Connects to `to`, at the address that the configuration gives for it, if it does. The time is the
    /// caller's to bound; cancel-safe.
    pub(crate) async fn dial(
        &self,
        to: &Authority,
        given: Option<SocketAddr>,
    ) -> Result<(TcpStream, SocketAddr), Error> {
        let addresses = self.addresses(to, given).await?;
        connect(to, addresses).await
    }

    /// The same for a parent, which the configuration names: any of its addresses will do that is not our own.
    pub(crate) async fn dial_parent(&self, to: &Authority) -> Result<(TcpStream, SocketAddr), Error> {
        let addresses = self.open(to, |address| self.rules.judge_parent(to, address, is_local)).await?;
        connect(to, addresses).await
    }

    /// Judges without dialling or resolving: an address literal, a given address, a denied name.
    pub(crate) fn forbidden(&self, to: &Authority, given: Option<SocketAddr>) -> Option<Forbidden> {
        match (given, &to.host) {
            (Some(address), _) => self.judge(to, address, true).err(),
            (None, Host::Address(address)) => self.judge(to, (*address, to.port).into(), false).err(),
            (None, Host::Name(_)) => self.rules.judge_host(to).err(),
        }
    }

    async fn addresses(&self, to: &Authority, given: Option<SocketAddr>) -> Result<Vec<SocketAddr>, Error> {
        if let Some(forbidden) = self.forbidden(to, given) {
            return Err(Error::Forbidden(forbidden));
        }
        if let Some(address) = given {
            return Ok(vec![address]);
        }
        self.open(to, |address| self.judge(to, address, false)).await
    }

    /// The addresses of `to` that `judge` lets pass, in the order to dial them.
    async fn open(
        &self,
        to: &Authority,
        judge: impl Fn(SocketAddr) -> Result<(), Forbidden>,
    ) -> Result<Vec<SocketAddr>, Error> {
        let found = match &to.host {
            Host::Address(address) => vec![SocketAddr::new(*address, to.port)],
            Host::Name(name) => self.resolve(name, to).await?,
        };
        let of_family: Vec<SocketAddr> = found.into_iter().filter(|address| self.family.has(address.ip())).collect();
        let mut refusal = Error::NoAddress { to: to.clone() };
        let mut open = Vec::with_capacity(of_family.len());
        for address in of_family {
            match judge(address) {
                Ok(()) => open.push(address),
                Err(forbidden) => refusal = Error::Forbidden(forbidden),
            }
        }
        if open.is_empty() { Err(refusal) } else { Ok(interleaved(open)) }
    }

    async fn resolve(&self, name: &Arc<str>, to: &Authority) -> Result<Vec<SocketAddr>, Error> {
        let Some(resolver) = &self.resolver else { return resolve(name, to).await };
        let failed = |error: ResolveError| unresolved(to, error);
        let found = resolver.addresses(name, self.family).await.map_err(failed)?;
        Ok(found.iter().map(|address| SocketAddr::new(*address, to.port)).collect())
    }

    fn judge(&self, to: &Authority, address: SocketAddr, given: bool) -> Result<(), Forbidden> {
        self.rules.judge(to, address, given, is_local)
    }
}

impl Family {
    pub(crate) fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.to_canonical().is_ipv4(),
            Self::V6 => address.to_canonical().is_ipv6(),
        }
    }
}

async fn connect(to: &Authority, addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), Error> {
    let (stream, address) = race(to, addresses).await?;
    // A connection that keeps its defaults still works.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4));
    Ok((stream, address))
}

async fn resolve(name: &str, to: &Authority) -> Result<Vec<SocketAddr>, Error> {
    let failed = |error: io::Error| unresolved(to, error);
    // The final dot keeps the machine's search domains out of it, but also /etc/hosts: so it is not set.
    let found: Vec<SocketAddr> = tokio::net::lookup_host((name, to.port)).await.map_err(failed)?.collect();
    if found.is_empty() { Err(failed(io::Error::other("the name has no address"))) } else { Ok(found) }
}

/// A resolver needs files as well, and the system's does not say that it got none.
fn unresolved(to: &Authority, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let (to, source) = (to.clone(), Arc::new(error));
    if host::has_free_file() { Error::Resolve { to, source } } else { exhausted(&to, source) }
}

fn exhausted(to: &Authority, source: Arc<dyn std::error::Error + Send + Sync>) -> Error {
    static SAID: LogThrottle = LogThrottle::new();
    if SAID.is_due() {
        tracing::error!(
            %to, error = %source, reason = "descriptors",
            "this process has no free file descriptor; upstreams cannot be reached (LimitNOFILE=)"
        );
    }
    EXHAUSTED.fetch_add(1, Ordering::Relaxed);
    Error::Exhausted { to: to.clone(), source }
}

/// How often an upstream was not dialled for want of a file descriptor.
#[must_use]
pub fn exhaustions() -> u64 {
    EXHAUSTED.load(Ordering::Relaxed)
}

static EXHAUSTED: AtomicU64 = AtomicU64::new(0);

/// Whether an address is one of this machine: only such a one can be bound. Where no socket is left nobody knows, and
/// what may be ourselves is not dialled.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).map_or_else(|error| host::is_exhausted(&error), |_| true)
}

/// The families in turn, the resolver's first choice first (RFC 8305, section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut mixed: Vec<SocketAddr> = Vec::new();
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed
}

/// Dials in order; the next one starts when one fails or is slow. The first connection wins.
async fn race(to: &Authority, addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), Error> {
    let mut waiting = VecDeque::from(addresses);
    let mut trying = FuturesUnordered::new();
    let mut last = Error::NoAddress { to: to.clone() };
    loop {
        if let Some(address) = waiting.pop_front() {
            trying.push(async move { (address, TcpStream::connect(address).await) });
        } else if trying.is_empty() {
            return Err(last);
        }
        let done = if waiting.is_empty() {
            trying.next().await
        } else {
            match tokio::time::timeout(ATTEMPT_DELAY, trying.next()).await {
                Ok(done) => done,
                Err(_) => continue,
            }
        };
        match done {
            Some((address, Ok(stream))) => return Ok((stream, address)),
            Some((_, Err(error))) if host::is_exhausted(&error) => return Err(exhausted(to, Arc::new(error))),
            Some((address, Err(error))) => {
                last = Error::Connect { to: to.clone(), address, source: Arc::new(error) };
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let mixed = interleaved(addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"]));
        assert_eq!(mixed, addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"]));
        let mixed = interleaved(addresses(&["127.0.0.1:1", "[::1]:1"]));
        assert_eq!(mixed, addresses(&["127.0.0.1:1", "[::1]:1"]));
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next() {
        let open = TcpListener::bind("127.0.0.3:0").await.unwrap();
        let port = open.local_addr().unwrap().port();
        let to = Authority::parse("quay.io", 443).unwrap();
        let closed: SocketAddr = ([127, 0, 0, 2], port).into();
        let list = vec![closed, open.local_addr().unwrap()];
        assert_eq!(race(&to, list).await.unwrap().1, open.local_addr().unwrap());
        let error = race(&to, vec![closed]).await.unwrap_err();
        assert!(matches!(error, Error::Connect { address, .. } if address == closed));
    }

    #[tokio::test]
    async fn an_address_that_is_silent_does_not_hold_up_the_next() {
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket().unwrap();
        let waiting: Vec<Socket> = (0..4).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
        for socket in &waiting {
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&silent.into()); // fills the queue: from now on nobody is answered
        }
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = open.local_addr().unwrap();
        let to = Authority::parse("quay.io", 443).unwrap();
        assert_eq!(race(&to, vec![silent, open]).await.unwrap().1, open);
    }

    #[test]
    fn only_addresses_of_this_machine_are_local() {
        assert!(is_local([127, 0, 0, 1].into()));
        assert!(!is_local([192, 0, 2, 1].into()));
    }
}
