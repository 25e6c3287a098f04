//! A connection of bytes to a host, direct or through a parent.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::ends::NearEnd;
use super::sockets::Socket;
use crate::wire::Rewind;

/// A connection whose other end is the host that was meant.
pub struct EgressStream {
    pub(crate) stream: Transport,
    /// Which of the hops of `upstream.proxy` it goes through, if it goes through one.
    pub(crate) hop: Option<usize>,
    pub(crate) address: Option<SocketAddr>,
    _socket: Option<Socket>,
    _end: Option<NearEnd>,
}

/// What a line is made of.
pub(crate) enum Transport {
    Direct(TcpStream),
    Parent(Rewind<TcpStream>),
    Secure(Box<Rewind<TlsStream<TcpStream>>>),
}

trait Both: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl EgressStream {
    pub(crate) fn direct(stream: TcpStream, address: SocketAddr) -> Self {
        let end = NearEnd::of(&stream);
        Self { stream: Transport::Direct(stream), hop: None, address: Some(address), _socket: None, _end: end }
    }

    pub(crate) fn by_hop(stream: Transport, hop: usize) -> Self {
        Self { stream, hop: Some(hop), address: None, _socket: None, _end: None }
    }

    /// The same, which counts as this one until it is closed.
    pub(crate) fn with(self, socket: Socket) -> Self {
        Self { _socket: Some(socket), ..self }
    }

    /// The host's address, where it was dialled from here and not by a parent.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    fn both(self: Pin<&mut Self>) -> Pin<&mut dyn Both> {
        match &mut self.get_mut().stream {
            Transport::Direct(stream) => Pin::new(stream),
            Transport::Parent(stream) => Pin::new(stream),
            Transport::Secure(stream) => Pin::new(stream.as_mut()),
        }
    }
}

impl AsyncRead for EgressStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.both().poll_read(cx, buf)
    }
}

impl AsyncWrite for EgressStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.both().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.both().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Direct(stream) => stream.is_write_vectored(),
            Transport::Parent(stream) => stream.is_write_vectored(),
            Transport::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.both().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.both().poll_shutdown(cx)
    }
}
