//! A scripted registry: a server on a thread of its own, what it holds, what it is told, what it saw.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use pullthrough::oci::{Algorithm, Digest};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::content::{Content, Image};
use super::lab::{self, Certificate};
use super::ports::Nowhere;
use super::script::{Act, Line, matches};
use super::server::{Seen, Shared, accept};
use super::token::Tokens;

/// How a registry is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The names in its certificate; the first one is its own.
    pub(crate) names: Vec<String>,
    /// The address that it listens at.
    pub(crate) ip: IpAddr,
    /// Its certificate; none: no TLS.
    pub(crate) certificate: Option<Certificate>,
    /// Whether it offers HTTP/2.
    pub(crate) h2: bool,
    /// Whether it demands a client certificate of the lab's CA.
    pub(crate) client_certificate: bool,
    /// How many streams it serves at a time on a connection of HTTP/2; none: 200, as hyper does.
    pub(crate) streams: Option<u32>,
}

impl Setup {
    /// TLS, HTTP/1.1 and HTTP/2, on 127.0.0.1.
    pub(crate) fn named(name: &str) -> Self {
        let ip = Ipv4Addr::LOCALHOST.into();
        Self {
            names: vec![name.to_owned()],
            ip,
            certificate: Some(Certificate::Good),
            h2: true,
            client_certificate: false,
            streams: None,
        }
    }
}

/// A server that runs until it is stopped or dropped.
pub(crate) struct Registry {
    shared: Arc<Shared>,
    setup: Setup,
    running: Option<Running>,
    /// Keeps the port from everybody else, while it is stopped too.
    port: Nowhere,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Registry {
    /// A registry of this name: TLS with the lab's certificate, HTTP/1.1 and HTTP/2.
    pub(crate) fn start(name: &str) -> Self {
        Self::with(Setup::named(name))
    }

    /// Without TLS.
    pub(crate) fn plain(name: &str) -> Self {
        Self::with(Setup { certificate: None, ..Setup::named(name) })
    }

    pub(crate) fn with(setup: Setup) -> Self {
        Self::holding(setup, Arc::default())
    }

    /// Another server over this one's content: a CDN, or a mirror.
    pub(crate) fn sibling(&self, setup: Setup) -> Self {
        Self::holding(setup, Arc::clone(&self.shared.content))
    }

    fn holding(setup: Setup, content: Arc<Mutex<Content>>) -> Self {
        let shared = Arc::new(Shared { content, ..Shared::default() });
        let port = Nowhere::at(SocketAddr::new(setup.ip, 0));
        let mut registry = Self { shared, setup, running: None, port };
        registry.start_again();
        registry
    }

    /// Listens and answers again, on the same port, with the same content, script and memory.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "it is running");
        let listener = std::net::TcpListener::bind(self.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let tls = self.setup.certificate.map(|certificate| {
            let alpn: &[&[u8]] = if self.setup.h2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
            TlsAcceptor::from(lab::server_config(&self.setup.names, certificate, alpn, self.setup.client_certificate))
        });
        let (stop, stopped) = oneshot::channel();
        let (shared, streams) = (Arc::clone(&self.shared), self.setup.streams);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, tls, streams, shared) => {}
                    _ = stopped => {}
                }
            });
            // The runtime's end closes every connection.
        });
        self.running = Some(Running { stop, thread });
    }

    /// Closes the port and every connection.
    pub(crate) fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(());
            thread.join().unwrap();
        }
    }

    /// From now on, or no longer: connections are accepted and nothing is said on them.
    pub(crate) fn hang(&self, hanging: bool) {
        self.shared.hanging.store(hanging, Ordering::SeqCst);
    }

    pub(crate) fn name(&self) -> &str {
        &self.setup.names[0]
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The certificate to trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        match self.setup.certificate {
            Some(Certificate::Own(own)) => own.certificate.clone(),
            _ => lab::ca_file(),
        }
    }

    /// `https://NAME:PORT`, or `http://...`.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.setup.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.name(), self.address().port())
    }

    /// Hands out tokens at `/token`.
    pub(crate) fn serve_tokens(&self, tokens: &Tokens) {
        *self.shared.tokens.lock().unwrap() = Some(tokens.clone());
    }

    /// Demands bearer tokens for everything under `/v2/`.
    pub(crate) fn require_token(&self, tokens: &Tokens, realm: &str) -> Line {
        self.script("/v2/*", Act::Bearer(tokens.clone(), realm.to_owned()))
    }

    /// Demands user and password for everything under `/v2/`.
    pub(crate) fn require_basic(&self, user: &str, password: &str) -> Line {
        self.script("/v2/*", Act::Basic(user.to_owned(), password.to_owned()))
    }

    /// Redirects GET and HEAD of blobs to the same path elsewhere.
    pub(crate) fn redirect_blobs(&self, to: &str) -> Line {
        let location = format!("{to}{{path}}?X-Amz-Signature=secret");
        self.script("*/blobs/sha*", Act::Redirect { status: 307, location })
    }

    /// Does this to every request that matches (see [`script`](super::script)).
    pub(crate) fn script(&self, pattern: &str, act: Act) -> Line {
        self.add(pattern, act, None)
    }

    /// Does this to the next so many requests that match.
    pub(crate) fn script_times(&self, times: usize, pattern: &str, act: Act) -> Line {
        self.add(pattern, act, Some(times))
    }

    fn add(&self, pattern: &str, act: Act, times: Option<usize>) -> Line {
        self.shared.script.lock().unwrap().add(pattern, act, times)
    }

    pub(crate) fn unscript(&self, line: Line) {
        self.shared.script.lock().unwrap().remove(line);
    }

    pub(crate) fn push_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        self.push_blob_as(repository, &digest, bytes);
        digest
    }

    /// Puts a blob under a digest of the caller's choice, right or wrong.
    pub(crate) fn push_blob_as(&self, repository: &str, digest: &Digest, bytes: impl Into<Bytes>) {
        self.content().put_blob(repository, &digest.to_string(), bytes.into());
    }

    pub(crate) fn push_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        self.content().put_manifest(repository, tag, media_type, bytes.into())
    }

    pub(crate) fn push_image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Image {
        self.push_image_for("amd64", repository, tag, layers)
    }

    pub(crate) fn push_image_for(&self, architecture: &str, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Image {
        self.content().put_image(repository, tag, architecture, layers)
    }

    /// An index over images of the same repository.
    pub(crate) fn push_index(&self, repository: &str, tag: &str, images: &[&Image]) -> Digest {
        self.content().put_index(repository, tag, images)
    }

    /// Takes away a tag, a manifest or a blob.
    pub(crate) fn remove(&self, repository: &str, reference: &str) {
        assert!(self.content().remove(repository, reference), "{repository} has no {reference}");
    }

    /// What it holds, as a client that pushed would want to know.
    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.content().blob(repository, &digest.to_string())
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.shared.content.lock().unwrap()
    }

    /// Every request so far, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests matched so far.
    pub(crate) fn count(&self, pattern: &str) -> usize {
        self.shared.seen.lock().unwrap().iter().filter(|seen| matches(pattern, &seen.method, &seen.path)).count()
    }

    /// Forgets the requests seen so far.
    pub(crate) fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// How many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many uploads came with trailers.
    pub(crate) fn trailed(&self) -> usize {
        self.shared.trailed.load(Ordering::SeqCst)
    }

    /// How many bytes of uploads arrived so far, finished or not.
    pub(crate) fn uploaded(&self) -> u64 {
        self.shared.uploaded.load(Ordering::SeqCst)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}
