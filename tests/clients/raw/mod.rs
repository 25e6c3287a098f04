//! A client that says exactly what it is told, byte by byte, inside a tunnel: no library tidies up what it asks.
//!
//! It blocks, has no retries and follows nothing. Its address can be chosen among those of loopback, so that a line of
//! the proxy's log can be told to belong to it.

mod h2;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

pub(crate) use h2::Ending;

/// How long a silent proxy is waited for: longer than it may take with an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all connections through one proxy have in common.
#[derive(Clone)]
pub(crate) struct Raw {
    proxy: SocketAddr,
    roots: Arc<RootCertStore>,
}

/// A connection to a host, inside a tunnel or straight to it.
pub(crate) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

/// With TLS or without.
trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

/// An answer that was read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    /// Goes through `proxy` and trusts the certificates in `ca_file` alone.
    pub(crate) fn new(proxy: SocketAddr, ca_file: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_file).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        Self { proxy, roots: Arc::new(roots) }
    }

    /// A tunnel to `authority` (`host:port`) that speaks HTTP/1.1 or, with `h2`, HTTP/2.
    pub(crate) fn tunnel(&self, from: Option<IpAddr>, authority: &str, h2: bool) -> io::Result<Connection> {
        let mut stream = connect(self.proxy, from)?;
        write!(stream, "CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n")?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?; // never into the TLS behind it
            head.extend(byte);
        }
        if !head.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![if h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(Connection::over(StreamOwned::new(tls, stream)))
    }

    /// Says `request` on the proxy's own port, outside any tunnel, and reads what comes until the proxy closes.
    pub(crate) fn outside(&self, from: Option<IpAddr>, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = connect(self.proxy, from)?;
        stream.write_all(request)?;
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
            _ => Ok(said),
        }
    }
}

fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(address) = from {
        socket.bind(&SocketAddr::new(address, 0).into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    /// To a server that speaks HTTP/1.1 without TLS, and without the proxy.
    pub(crate) fn plain(to: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(connect(to, None)?))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// Says `request` and reads the head of the answer. Its body is next in this reader.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Head> {
        let stream = self.stream.get_mut();
        stream.write_all(request)?;
        stream.flush()?;
        loop {
            let head = self.head()?;
            if !(100..200).contains(&head.status) {
                return Ok(head);
            }
        }
    }

    /// Says `request`, which must not be a HEAD, and reads the whole answer.
    pub(crate) fn whole(&mut self, request: &[u8]) -> io::Result<Answer> {
        let head = self.ask(request)?;
        let body = self.body(&head)?;
        Ok(Answer { head, body })
    }

    /// Puts one question by HTTP/2, its header fields as they are, and waits for the end of the answer.
    pub(crate) fn ask_h2(&mut self, fields: &[(&[u8], &[u8])]) -> io::Result<Ending> {
        h2::ask(&mut self.stream, fields, None)
    }

    /// The same with a body, whatever the fields say of its length.
    pub(crate) fn ask_h2_with(&mut self, fields: &[(&[u8], &[u8])], body: &[u8]) -> io::Result<Ending> {
        h2::ask(&mut self.stream, fields, Some(body))
    }

    /// Says something and hangs up.
    pub(crate) fn say(mut self, request: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(request)?;
        stream.flush()
    }

    fn head(&mut self) -> io::Result<Head> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None if line.is_empty() => return Ok(Head { status, headers }),
                None => return Err(io::Error::other(format!("no header: {line:?}"))),
            }
        }
    }

    /// RFC 9112, 6.3.
    fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if matches!(head.status, 204 | 304) {
            return Ok(body);
        }
        if head.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.line()?;
                let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                if size == 0 {
                    while !self.line()?.is_empty() {} // trailers
                    return Ok(body);
                }
                self.take_exactly(size, &mut body)?;
                self.line()?;
            }
        }
        match head.length() {
            Some(length) => self.take_exactly(length, &mut body)?,
            None => drop(self.stream.read_to_end(&mut body)?),
        }
        Ok(body)
    }

    fn take_exactly(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        let read = self.stream.by_ref().take(length).read_to_end(body)?;
        if read as u64 == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(65_536).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Head {
    /// The first header of that name, in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    /// `Content-Length`.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}
