//! Opens the listening sockets and accepts connections from them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::inherited::Passed;
use super::port;
use crate::host::{self, LogThrottle, Spare};
use crate::proxy::Door;
use crate::wire::ClientSocket;

const BACKLOG: i32 = 4096;
/// Retrying at once after running out of file descriptors would only burn a core.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a connection is idle before TCP keepalive probes the peer.
const ALIVE: Duration = Duration::from_secs(60);
/// Peers of a Unix socket have no address: whoever may open it is on this machine.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key}){}", why(*.address, .source, port::first_unprivileged()))]
pub(super) struct CannotListen {
    address: SocketAddr,
    key: &'static str,
    source: io::Error,
}

/// What is in the way, as far as this machine says, and what to do.
fn why(address: SocketAddr, error: &io::Error, unprivileged: u16) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => match port::listener(port) {
            Some(process) => format!(": {process} listens on port {port}; stop it, or choose another port"),
            None => format!(
                ": another program listens on port {port} (ss -ltnp names it to root); stop it, or choose another port"
            ),
        },
        io::ErrorKind::AddrNotAvailable => ": no interface of this machine has that address".to_owned(),
        io::ErrorKind::PermissionDenied if port < unprivileged => format!(
            ": port {port} is privileged, and user {} may not open it; choose a port from {} on, or grant the \
             capability CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=; a container: --cap-add NET_BIND_SERVICE), or \
             have systemd open it (pullthrough.socket)",
            rustix::process::geteuid().as_raw(),
            unprivileged,
        ),
        _ => String::new(),
    }
}

/// The addresses of the listeners. That of a Unix socket is 127.0.0.1 without a port.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// Of the admin port.
    pub(super) admin: SocketAddr,
    /// Of the doors.
    pub(super) doors: Vec<(Door, SocketAddr)>,
}

impl Addresses {
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        self.doors.iter().map(|(_, address)| *address).chain([self.admin]).collect()
    }

    /// Of this door, if it is open.
    pub(super) fn of(&self, door: Door) -> Option<SocketAddr> {
        self.doors.iter().find(|(one, _)| *one == door).map(|(_, address)| *address)
    }

    /// That of this door in words.
    pub(super) fn told(&self, door: Door) -> Option<String> {
        let words = |address: SocketAddr| match address.port() {
            0 => "a Unix socket".to_owned(), // which has no address
            _ => address.to_string(),
        };
        self.of(door).map(words)
    }

    /// Of the proxy's door, which is always open.
    pub(super) fn proxy(&self) -> SocketAddr {
        self.of(Door::Proxy).unwrap_or(HERE)
    }
}

/// Asks an accept loop whether it is still running.
pub(super) struct Heartbeat(mpsc::Sender<oneshot::Sender<()>>);

impl Heartbeat {
    /// Waits for the answer of the loop, which comes at once; false if the loop has ended.
    pub(super) async fn beats(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.is_ok() && answered.await.is_ok()
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    /// Cancel-safe.
    async fn accept(&self) -> io::Result<(ClientSocket, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(socket, peer)| (ClientSocket::Tcp(socket), peer)),
            Self::Unix(listener) => listener.accept().await.map(|(socket, _)| (ClientSocket::Unix(socket), HERE)),
        }
    }
}

/// A listening socket, and the channel on which its loop is asked whether it is alive.
pub(super) struct Listener {
    listener: Listening,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Listener {
    /// Uses the socket that was `passed` to us, else opens one on `address`, which the configuration has under `key`. A
    /// connection is closed when its peer acknowledges nothing of the written data for `stall`.
    pub(super) fn open(
        passed: Option<Passed>,
        address: SocketAddr,
        key: &'static str,
        stall: Duration,
    ) -> Result<(Self, Heartbeat), CannotListen> {
        let failed = |source| CannotListen { address, key, source };
        let listener = match passed {
            Some(Passed::Tcp(passed)) => Listening::Tcp(TcpListener::from_std(passed).map_err(failed)?),
            Some(Passed::Unix(passed)) => Listening::Unix(UnixListener::from_std(passed).map_err(failed)?),
            None => Listening::Tcp(open(address, key)?),
        };
        if let Listening::Tcp(listener) = &listener {
            prepare(listener, stall).map_err(failed)?;
        }
        let (heartbeat, asked) = mpsc::channel(1);
        Ok((Self { listener, asked }, Heartbeat(heartbeat)))
    }

    /// The address of the socket.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        match &self.listener {
            Listening::Tcp(listener) => listener.local_addr(),
            Listening::Unix(_) => Ok(HERE),
        }
    }

    /// Has the kernel hand over connections to other machines' addresses (iptables' TPROXY). False without the right to it
    /// (`CAP_NET_ADMIN`); a DNS override and REDIRECT need none.
    #[cfg(target_os = "linux")]
    pub(super) fn takes_foreign_addresses(&self) -> bool {
        match &self.listener {
            // On a socket of IPv6 as well: it is one flag for both.
            Listening::Tcp(listener) => socket2::SockRef::from(listener).set_ip_transparent_v4(true).is_ok(),
            Listening::Unix(_) => false,
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn takes_foreign_addresses(&self) -> bool {
        false
    }
}

/// Opens `address`, which the configuration has under `key`. `[::]` accepts IPv4 too; on a machine without IPv6 it is
/// 0.0.0.0.
fn open(address: SocketAddr, key: &'static str) -> Result<TcpListener, CannotListen> {
    let opened = match bind(address) {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && no_ipv6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        opened => opened,
    };
    opened.map_err(|source| CannotListen { address, key, source })
}

fn no_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(errno, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets the options that accepted connections inherit (Linux): done once here, they cost no system call each. A client
/// that vanished silently is noticed; a tunnel to it would stay open forever. So is a client that takes nothing: the
/// system sees each byte that the peer acknowledges, where we see only a full socket, so a slow client is never closed
/// (`TCP_USER_TIMEOUT`, tcp(7)).
fn prepare(listener: &TcpListener, stall: Duration) -> io::Result<()> {
    let socket = socket2::SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(stall))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE))
}

/// Accepts connections until `stop`. A failure is logged once a minute and affects no other connection. With a `spare`,
/// connections are accepted even when no file descriptor is left.
pub(super) async fn accept(
    opened: Listener,
    stop: CancellationToken,
    mut spare: Option<Spare>,
    serve: impl Fn(ClientSocket, SocketAddr),
) {
    let address = opened.address().map_or_else(|_| "-".to_owned(), |address| address.to_string());
    let Listener { listener, mut asked } = opened;
    let logged = LogThrottle::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
            Some(answer) = asked.recv() => {
                let _ = answer.send(()); // the asker may have given up
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                serve(stream, peer);
                spare.iter_mut().for_each(Spare::refill);
            }
            Err(error) if host::is_exhausted(&error) && spare.as_mut().is_some_and(Spare::give_up) => {}
            Err(error) => {
                if logged.is_due() {
                    warn!(%error, %address, "cannot accept connections at the moment");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_may_not_be_opened_is_told_with_the_way_to_open_it() {
        let denied = io::ErrorKind::PermissionDenied.into();
        let told = |port: u16| why((Ipv4Addr::LOCALHOST, port).into(), &denied, 1024);
        assert!(told(443).contains("port 443 is privileged") && told(443).contains("CAP_NET_BIND_SERVICE"));
        assert_eq!(told(1024), "", "then that is not why");
        let gone = io::ErrorKind::AddrNotAvailable.into();
        assert!(why((Ipv4Addr::LOCALHOST, 443).into(), &gone, 1024).contains("no interface"));
    }
}
