//! Holds a client's socket, TCP or Unix, as one type.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// An accepted connection.
#[derive(Debug)]
pub enum ClientSocket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket, whose peers have no address.
    Unix(UnixStream),
}

impl ClientSocket {
    /// The address that the client connected to before a NAT of this machine changed it (iptables REDIRECT), or that the
    /// kernel handed over as it is (TPROXY). `None` on a Unix socket, and where the kernel does not say.
    #[must_use]
    pub fn destination(&self) -> Option<SocketAddr> {
        let Self::Tcp(socket) = self else { return None };
        let local = socket.local_addr().ok()?;
        translated(socket, local).or(Some(local))
    }
}

/// What conntrack knows of a connection, which without a NAT is nothing, or the local address.
#[cfg(target_os = "linux")]
fn translated(socket: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
    if local.ip().to_canonical().is_ipv4() {
        ip_original_dst(socket).ok().map(SocketAddr::from)
    } else {
        ipv6_original_dst(socket).ok().map(SocketAddr::from)
    }
}

#[cfg(not(target_os = "linux"))]
fn translated(_: &TcpStream, _: SocketAddr) -> Option<SocketAddr> {
    None
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true // both
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // neither holds anything back
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
