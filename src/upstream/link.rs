//! The connections that the HTTP client is given: TCP by the rules, TLS on top where the URI says https.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::Error;
use super::dial::Dialer;
use super::endpoint::implied_port;
use super::tls::handshake_failed;
use crate::oci::{Authority, Host};

/// Makes connections for one way of reaching a host.
#[derive(Clone)]
pub(super) struct Linker {
    pub(super) dialer: Arc<Dialer>,
    pub(super) given: Option<SocketAddr>,
    pub(super) tls: Arc<rustls::ClientConfig>,
}

/// A connection, TLS or not.
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Whether a connection has brought an answer yet: rides along with it and with its answers and errors.
#[derive(Clone, Debug, Default)]
pub(super) struct Answered(Arc<AtomicBool>);

impl Answered {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Linker {
    async fn link(self, uri: Uri) -> Result<TokioIo<Link>, Error> {
        let secure = uri.scheme() != Some(&Scheme::HTTP);
        let to = authority(&uri, secure)?;
        let after = self.dialer.connect_timeout;
        let linked = tokio::time::timeout(after, self.connect(&to, secure)).await;
        linked.map_err(|_| Error::ConnectTimeout { to, after })?.map(TokioIo::new)
    }

    async fn connect(&self, to: &Authority, secure: bool) -> Result<Link, Error> {
        let (stream, address) = self.dialer.dial(to, self.given).await?;
        tracing::debug!(%to, %address, secure, "connected to upstream");
        if !secure {
            return Ok(Link::Plain(stream));
        }
        let name = match &to.host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| Error::Tls { to: to.clone(), source: Arc::new(error) })?,
        };
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        stream.map(|stream| Link::Tls(Box::new(stream))).map_err(|error| handshake_failed(to, error))
    }
}

/// Whom a URI means. Ours always do, so an error here never leaves this machine.
fn authority(uri: &Uri, secure: bool) -> Result<Authority, Error> {
    let text = uri.authority().map_or("", http::uri::Authority::as_str);
    Authority::parse(text, implied_port(secure)).map_err(|error| Error::Setup { source: Arc::new(error) })
}

impl Service<Uri> for Linker {
    type Response = TokioIo<Link>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Link>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().link(uri))
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(Answered::default());
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => connected.negotiated_h2(),
            Self::Tls(_) | Self::Plain(_) => connected,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
