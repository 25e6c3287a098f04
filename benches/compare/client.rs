//! One client: TCP, CONNECT where that is the way, TLS, HTTP/1.1 or HTTP/2, kept alive.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::certificates::{self, HOST};
use super::content::{INDEX, MANIFEST};

/// How a cache is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// By CONNECT to the registry's name, as HTTPS_PROXY does.
    Connect,
    /// As if it were the registry.
    Straight,
    /// The same, over plain HTTP.
    Plain,
}

/// What is spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; the client takes frames of so many bytes.
    Http2 { frame: u32 },
}

/// Whom to ask, and how.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    via: Via,
    authority: String,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    forgetful: Arc<ClientConfig>,
    receive_buffer: Option<u32>,
}

impl Target {
    /// A cache at `address` whose leaves are signed by the CA in the file `ca`.
    pub(crate) fn new(address: SocketAddr, via: Via, authority: String, ca: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates::read(ca)? {
            roots.add(certificate)?;
        }
        let config = |alpn: &[u8]| -> anyhow::Result<ClientConfig> {
            let mut config = ClientConfig::builder_with_provider(certificates::client_provider())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            Ok(config)
        };
        let mut forgetful = config(b"http/1.1")?;
        forgetful.resumption = Resumption::disabled();
        Ok(Self {
            address,
            via,
            authority,
            http1: Arc::new(config(b"http/1.1")?),
            http2: Arc::new(config(b"h2")?),
            forgetful: Arc::new(forgetful),
            receive_buffer: None,
        })
    }

    /// The same, remembering no TLS session.
    pub(crate) fn without_resumption(&self) -> Self {
        Self { http1: self.forgetful.clone(), ..self.clone() }
    }

    /// The same, with a small receive buffer: for clients that read slowly.
    pub(crate) fn with_receive_buffer(&self, bytes: u32) -> Self {
        Self { receive_buffer: Some(bytes), ..self.clone() }
    }

    /// Opens a connection.
    pub(crate) async fn open(&self, protocol: Protocol) -> anyhow::Result<Connection> {
        let stream = self.reach().await?;
        if self.via == Via::Plain {
            return self.speak(protocol, stream).await;
        }
        let tls = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 { .. } => &self.http2,
        };
        let name = ServerName::try_from(HOST)?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.context("TLS failed")?;
        self.speak(protocol, stream).await
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        protocol: Protocol,
        stream: S,
    ) -> anyhow::Result<Connection> {
        let stream = TokioIo::new(stream);
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 { frame } => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .max_frame_size(frame)
                    .initial_stream_window_size(16 << 20)
                    .initial_connection_window_size(64 << 20)
                    .handshake(stream)
                    .await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Connection { sender, authority: self.authority.clone() })
    }

    /// The connection before anything is said in it, but for CONNECT.
    pub(crate) async fn reach(&self) -> anyhow::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let mut stream = socket.connect(self.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        if self.via == Via::Connect {
            self.ask_for_tunnel(&mut stream).await?;
        }
        Ok(stream)
    }

    /// Whether it is reached by CONNECT.
    pub(crate) fn is_proxy(&self) -> bool {
        self.via == Via::Connect
    }

    async fn ask_for_tunnel(&self, stream: &mut TcpStream) -> anyhow::Result<()> {
        let authority = &self.authority;
        stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
        let mut head = Vec::with_capacity(512);
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(head.len() < 8192, "the answer to CONNECT does not end");
            head.push(stream.read_u8().await.context("the proxy closed at CONNECT")?);
        }
        ensure!(head.starts_with(b"HTTP/1.1 200"), "CONNECT was refused: {}", String::from_utf8_lossy(&head));
        Ok(())
    }
}

/// An open connection.
pub(crate) struct Connection {
    sender: Sender,
    authority: String,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// How one answer went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) first_byte: Duration,
    pub(crate) whole: Duration,
}

impl Connection {
    /// Another user of the same connection, where the protocol allows it.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => {
                Some(Self { sender: Sender::Http2(sender.clone()), authority: self.authority.clone() })
            }
        }
    }

    /// Whether another request can be sent on it; waits until it is known.
    pub(crate) async fn is_usable(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and answers the response's head; any status but 200 is an error.
    pub(crate) async fn send(&mut self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder().method(method);
        let request = match &self.sender {
            Sender::Http1(_) => request.uri(path).header("host", &self.authority),
            Sender::Http2(_) => request.uri(format!("https://{}{path}", self.authority)),
        };
        let request = request
            .header("accept", MANIFEST)
            .header("accept", INDEX)
            .header("user-agent", "compare/1")
            .body(Empty::new())?;
        let response = match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await?,
            Sender::Http2(sender) => sender.send_request(request).await?,
        };
        if response.status() != 200 {
            bail!("{path} was answered with {}", response.status());
        }
        Ok(response)
    }

    /// Reads a whole answer; `count` hears of its bytes as they come.
    pub(crate) async fn fetch(&mut self, path: &str, count: impl Fn(u64)) -> anyhow::Result<Served> {
        let started = Instant::now();
        let response = self.send(Method::GET, path).await?;
        let said = response.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let mut body = response.into_body();
        let (mut bytes, mut first_byte) = (0, None);
        while let Some(frame) = body.frame().await {
            let length = frame?.data_ref().map_or(0, |data| data.len() as u64);
            if length > 0 {
                first_byte.get_or_insert_with(|| started.elapsed());
                bytes += length;
                count(length);
            }
        }
        if let Some(said) = said {
            ensure!(said == bytes, "{path}: {bytes} of {said} bytes came");
        }
        let whole = started.elapsed();
        Ok(Served { first_byte: first_byte.unwrap_or(whole), whole })
    }
}
