//! A raw client: CONNECTs through a proxy (or goes directly), speaks TLS with a given CA, HTTP/1.1 or HTTP/2.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pullthrough::wire::Body;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::lab;

/// How to reach hosts.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    at: SocketAddr,
    connect: bool,
    ca_files: Vec<PathBuf>,
    h2: bool,
    connect_headers: Vec<(String, String)>,
    from: Option<IpAddr>,
    window: Option<u32>,
}

/// One connection to one host.
pub(crate) struct Session {
    sender: Sender,
    authority: String,
    /// The host's certificates, leaf first.
    pub(crate) certificates: Vec<Vec<u8>>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// A proxy's answer to CONNECT that was not 200.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The head and what came of the body, as text.
    pub(crate) text: String,
}

impl Client {
    /// CONNECTs through the proxy at `proxy`, and trusts this CA.
    pub(crate) fn through(proxy: SocketAddr, ca_file: &Path) -> Self {
        let ca_files = vec![ca_file.to_owned()];
        Self { at: proxy, connect: true, ca_files, h2: false, connect_headers: Vec::new(), from: None, window: None }
    }

    /// Connects to a server itself, and trusts the lab's CA.
    pub(crate) fn direct(server: SocketAddr) -> Self {
        Self { connect: false, ..Self::through(server, &lab::ca_file()) }
    }

    pub(crate) fn trusting(mut self, ca_file: &Path) -> Self {
        self.ca_files.push(ca_file.to_owned());
        self
    }

    /// Speaks HTTP/2 inside the tunnel.
    pub(crate) fn h2(self) -> Self {
        Self { h2: true, ..self }
    }

    /// Speaks HTTP/2, and takes so many bytes of each answer before it reads.
    pub(crate) fn windows(self, bytes: u32) -> Self {
        Self { h2: true, window: Some(bytes), ..self }
    }

    /// Connects from this address of the machine.
    pub(crate) fn from(self, address: &str) -> Self {
        Self { from: Some(address.parse().unwrap()), ..self }
    }

    async fn dial(&self) -> TcpStream {
        let Some(from) = self.from else { return TcpStream::connect(self.at).await.unwrap() };
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(self.at).await.unwrap()
    }

    pub(crate) fn connect_header(mut self, name: &str, value: &str) -> Self {
        self.connect_headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The bytes behind CONNECT, or the refusal.
    pub(crate) async fn tunnel(&self, authority: &str) -> Result<TcpStream, Refusal> {
        let mut stream = self.dial().await;
        if !self.connect {
            return Ok(stream);
        }
        let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        for (name, value) in &self.connect_headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(_) => break,
            }
        }
        let mut text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status == 200 {
            return Ok(stream);
        }
        let length = text
            .to_ascii_lowercase()
            .split("content-length:")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        let _ = stream.read_exact(&mut body).await;
        text.push_str(&String::from_utf8_lossy(&body));
        Err(Refusal { status, text })
    }

    /// TLS behind CONNECT.
    pub(crate) async fn tls(&self, authority: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let (host, _) = authority.rsplit_once(':').expect("host:port");
        self.tls_as(authority, host).await
    }

    /// TLS behind CONNECT, asking for another name than CONNECT did.
    pub(crate) async fn tls_as(&self, authority: &str, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = self.tunnel(authority).await.expect("CONNECT is answered 200");
        self.tls_over(stream, host).await
    }

    /// A connection to `host:port`, ready for requests.
    pub(crate) async fn session(&self, authority: &str) -> Session {
        let stream = self.tunnel(authority).await.expect("CONNECT is answered 200");
        self.session_over(stream, authority).await.expect("the TLS handshake succeeds")
    }

    /// The same over a stream of the test's own: TLS asks for the host.
    pub(crate) async fn session_over<S>(&self, stream: S, authority: &str) -> std::io::Result<Session>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (host, _) = authority.rsplit_once(':').expect("host:port");
        let stream = self.tls_over(stream, host).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates = chain.iter().map(|certificate| certificate.as_ref().to_vec()).collect();
        let sender = self.handshake(stream).await;
        Ok(Session { sender, authority: authority.to_owned(), certificates })
    }

    /// TLS over a stream of the test's own.
    pub(crate) async fn tls_over<S>(&self, stream: S, host: &str) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let alpn: &[&[u8]] = if self.h2 { &[b"h2"] } else { &[b"http/1.1"] };
        let ca_files: Vec<&Path> = self.ca_files.iter().map(PathBuf::as_path).collect();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(lab::client_config(&ca_files, alpn)).connect(name, stream).await
    }

    /// A connection without TLS: to a plain server, or to the proxy itself.
    pub(crate) async fn plain_session(&self, authority: &str) -> Session {
        let sender = self.handshake(self.dial().await).await;
        Session { sender, authority: authority.to_owned(), certificates: Vec::new() }
    }

    /// One GET over a connection of its own, whole.
    pub(crate) async fn get(&self, authority: &str, path: &str) -> Whole {
        self.session(authority).await.get(path).await
    }

    async fn handshake<S>(&self, stream: S) -> Sender
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        // What ends a connection is seen by the requests on it.
        if self.h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(self.window).max_concurrent_reset_streams(1000);
            let (sender, connection) = builder.handshake(stream).await.unwrap();
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            Sender::Http1(sender)
        }
    }
}

impl Session {
    /// From now on, requests name another host than the connection was opened to.
    pub(crate) fn naming(self, authority: &str) -> Self {
        Self { authority: authority.to_owned(), ..self }
    }

    /// Sends a request; the answer's body streams.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method);
        request = match &self.sender {
            Sender::Http1(_) => {
                let host = self.authority.strip_suffix(":443").unwrap_or(&self.authority);
                request.uri(path).header("host", host)
            }
            Sender::Http2(_) => request.uri(format!("https://{}{path}", self.authority)),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// GET, with the whole body.
    pub(crate) async fn get(&mut self, path: &str) -> Whole {
        self.ask("GET", path, &[]).await
    }

    /// The same, where the answer may break off: its head may be lost then, too, as chance has it.
    pub(crate) async fn get_broken(&mut self, path: &str) -> Option<Whole> {
        let answer = self.send("GET", path, &[], Body::empty()).await.ok()?;
        Some(whole(answer).await)
    }

    /// Any request without a body, with the whole body of its answer.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Whole {
        let answer = self.send(method, path, headers, Body::empty()).await.expect("an answer comes");
        whole(answer).await
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body, or `Err` with what came of it before it broke.
    pub(crate) body: Result<Bytes, Bytes>,
}

impl Whole {
    /// A header's text, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        self.body.as_ref().unwrap_or_else(|got| panic!("the body broke after {} bytes", got.len()))
    }
}

/// Reads an answer to its end.
pub(crate) async fn whole(answer: Response<Incoming>) -> Whole {
    let (head, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    let body = loop {
        match body.frame().await {
            None => break Ok(bytes.into()),
            Some(Err(_)) => break Err(bytes.into()),
            Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
        }
    };
    Whole { status: head.status, headers: head.headers, body }
}
