//! A scripted forward proxy: takes CONNECT and absolute-form, knows where hosts are, does what it is told, counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::Registry;
use super::lab::{self, Certificate};

/// What it does to those who ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// What it is asked for.
    Willing,
    /// Nothing: it closes the connection.
    Closing,
    /// Nothing: it is silent.
    Silent,
    /// It answers this status for this host and is willing for others; `*` is any.
    Status(&'static str, u16),
}

/// A proxy that runs until it is dropped.
pub(crate) struct Parent {
    shared: Arc<Shared>,
    address: SocketAddr,
    secure: bool,
    task: JoinHandle<()>,
}

struct Shared {
    hosts: Mutex<HashMap<String, SocketAddr>>,
    manner: Mutex<Manner>,
    login: Mutex<Option<String>>,
    seen: Mutex<Vec<String>>,
    accepted: AtomicUsize,
}

impl Parent {
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// TLS is spoken with it, with a certificate of the lab for `name`.
    pub(crate) async fn secure(name: &str) -> Self {
        Self::with_certificate(name, Certificate::Good).await
    }

    pub(crate) async fn with_certificate(name: &str, certificate: Certificate) -> Self {
        let config = lab::server_config(&[name.to_owned()], certificate, &[b"http/1.1"], false);
        Self::listen(Some(TlsAcceptor::from(config))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            hosts: Mutex::default(),
            manner: Mutex::new(Manner::Willing),
            login: Mutex::default(),
            seen: Mutex::default(),
            accepted: AtomicUsize::new(0),
        });
        let (serving, secure) = (shared.clone(), tls.is_some());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.accepted.fetch_add(1, Ordering::SeqCst);
                let (shared, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { shared, address, secure, task }
    }

    /// From now on it knows where a server is, by its name and port, and by its name and 443.
    pub(crate) fn knows(self, server: &Registry) -> Self {
        for port in [server.address().port(), 443] {
            self.shared.hosts.lock().unwrap().insert(format!("{}:{port}", server.name()), server.address());
        }
        self
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// From now on it wants this user and password.
    pub(crate) fn require(&self, user: &str, password: &str) {
        *self.shared.login.lock().unwrap() = Some(super::basic_value(user, password));
    }

    pub(crate) fn url(&self) -> String {
        format!("http{}://{}", if self.secure { "s" } else { "" }, self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of all requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests begin so.
    pub(crate) fn count(&self, beginning: &str) -> usize {
        self.seen().iter().filter(|head| head.starts_with(beginning)).count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: &Shared) {
    let manner = shared.manner.lock().unwrap().clone();
    if manner == Manner::Closing {
        return;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let text = String::from_utf8(head).unwrap();
    shared.seen.lock().unwrap().push(text.clone());
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let host = target.strip_prefix("http://").map_or(target, |rest| rest.split('/').next().unwrap()).to_owned();
    let known = shared.hosts.lock().unwrap().get(&host).copied();
    let login = shared.login.lock().unwrap().clone();
    let has_login = login
        .is_none_or(|login| text.to_lowercase().contains(&format!("proxy-authorization: {}", login.to_lowercase())));
    let status = match manner {
        Manner::Silent => std::future::pending().await,
        _ if !has_login => Some(407),
        Manner::Status(of, status) if of == "*" || host.starts_with(of) => Some(status),
        _ if known.is_none() => Some(502),
        _ => None,
    };
    if let Some(status) = status {
        let _ = stream.write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        return;
    }
    let mut server = TcpStream::connect(known.unwrap()).await.unwrap();
    if method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    } else {
        server.write_all(text.as_bytes()).await.unwrap();
    }
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
}
