//! Makes the connections of the HTTP client: a stream under the address rules, with TLS where the URI says https.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::egress::Egress;
use super::frames::Frames;
use super::life::Life;
use super::sockets::{Socket, are_scarce};
use super::stream::EgressStream;
use super::tls::{handshake_failed, server_name};
use crate::oci::Authority;
use crate::upstream::Error;
use crate::upstream::endpoint::implied_port;

/// Makes connections for one way of reaching a host.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) egress: Arc<Egress>,
    pub(crate) given: Option<SocketAddr>,
    pub(crate) tls: Tls,
}

/// Whom to trust: a parent that takes TLS off has a CA of its own, which counts for what goes through it.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) direct: Arc<ClientConfig>,
    /// One for each hop of `upstream.proxy`.
    pub(crate) by_hop: Vec<Arc<ClientConfig>>,
}

/// A connection, TLS or not, which writes down its life.
pub(crate) struct MaybeTlsStream {
    layer: Layer,
    life: Life,
    /// What an HTTP/2 peer sends is read along.
    frames: Option<Frames>,
    cut: Option<Cut>,
}

/// A peer of HTTP/1.1 takes nothing more.
///
/// One that answers before it has read a request, and closes, has its answer reset behind it: a write fails, and the answer is
/// there to be read. So the failure is told once all was read, or after a while.
struct Cut {
    error: io::ErrorKind,
    is_read: bool,
    patience: Pin<Box<Sleep>>,
}

/// What came before a reset takes no time to be read.
const PATIENCE: Duration = Duration::from_secs(1);

enum Layer {
    Plain(EgressStream),
    Tls(Box<TlsStream<EgressStream>>),
}

impl MaybeTlsStream {
    fn plain(stream: EgressStream) -> Self {
        Self { layer: Layer::Plain(stream), life: Life::new(false), frames: None, cut: None }
    }

    fn tls(stream: TlsStream<EgressStream>) -> Self {
        let is_shared = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let frames = is_shared.then(Frames::default);
        Self { layer: Layer::Tls(Box::new(stream)), life: Life::new(is_shared), frames, cut: None }
    }

    /// Does `poll` with the layer, unless its peer takes nothing more.
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Layer, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let cut = match &mut self.cut {
            Some(cut) => cut,
            none => match poll(&mut self.layer, cx) {
                Poll::Ready(Err(error)) if self.frames.is_none() => {
                    cx.waker().wake_by_ref(); // to read
                    none.insert(Cut { error: error.kind(), is_read: false, patience: Box::pin(sleep(PATIENCE)) })
                }
                polled => return polled,
            },
        };
        if !cut.is_read && cut.patience.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Err(cut.error.into()))
    }
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<MaybeTlsStream>, Error> {
        let secure = uri.scheme() != Some(&Scheme::HTTP);
        let to = authority(&uri, secure)?;
        let socket = Socket::take(&to).await?; // before the clock runs: it is no time of the host's
        if !secure {
            // A plain request that goes through a parent has a connection of its own (`forwarded`).
            let stream = self.egress.straight(&to, self.given, socket).await;
            return stream.map(|stream| TokioIo::new(MaybeTlsStream::plain(stream)));
        }
        let after = self.egress.dialer.connect_timeout;
        let begun = Instant::now();
        let stream = self.egress.stream(&to, self.given, None, socket).await?;
        // Each parent has the timeout for itself, and so has the handshake behind it.
        let since = if self.egress.goes_through_parent(&to, self.given) { Instant::now() } else { begun };
        let connected = tokio::time::timeout_at(since + after, self.handshake(&to, stream)).await;
        connected.map_err(|_| Error::ConnectTimeout { to, is_reached: true, after })?.map(TokioIo::new)
    }

    async fn handshake(&self, to: &Authority, stream: EgressStream) -> Result<MaybeTlsStream, Error> {
        let tls = stream.hop.and_then(|hop| self.tls.by_hop.get(hop)).unwrap_or(&self.tls.direct);
        let stream = TlsConnector::from(Arc::clone(tls)).connect(server_name(to)?, stream).await;
        stream.map(MaybeTlsStream::tls).map_err(|error| handshake_failed(to, error))
    }
}

/// Whom a URI means. Ours always do, so an error here never leaves this machine.
fn authority(uri: &Uri, secure: bool) -> Result<Authority, Error> {
    let text = uri.authority().map_or("", http::uri::Authority::as_str);
    Authority::parse(text, implied_port(secure)).map_err(|error| Error::Setup { source: Arc::new(error) })
}

impl Service<Uri> for Connector {
    type Response = TokioIo<MaybeTlsStream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<MaybeTlsStream>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl Connection for MaybeTlsStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.life.clone());
        if self.frames.is_some() {
            return connected.negotiated_h2(); // one is for all requests to its host
        }
        if are_scarce() {
            connected.poison(); // idle ones leave room for others
        }
        connected
    }
}

impl AsyncRead for MaybeTlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = match &mut this.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_read(cx, buf).map(bare_close_is_an_end),
        };
        let came = buf.filled().get(before..).unwrap_or_default();
        if let Some(cut) = &mut this.cut {
            cut.is_read |= polled.is_ready() && came.is_empty();
        }
        if !came.is_empty() {
            this.life.hear();
            if let Some(frames) = &mut this.frames {
                if let Some(streams) = frames.read(came) {
                    this.life.serves(streams);
                }
                if frames.has_interim() {
                    this.life.tell_interim();
                }
            }
        }
        polled
    }
}

/// Some servers end a body that has no length by closing the connection, without TLS's word for it. Clients in Go read that as
/// the end. What has a length or chunks is known to be cut all the same, and content is what its digest says.
fn bare_close_is_an_end(read: io::Result<()>) -> io::Result<()> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        read => read,
    }
}

impl AsyncWrite for MaybeTlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |layer, cx| match layer {
            Layer::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |layer, cx| match layer {
            Layer::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Layer::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        })
    }

    fn is_write_vectored(&self) -> bool {
        match &self.layer {
            Layer::Plain(stream) => stream.is_write_vectored(),
            Layer::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().write(cx, |layer, cx| match layer {
            Layer::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_flush(cx),
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().layer {
            Layer::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
