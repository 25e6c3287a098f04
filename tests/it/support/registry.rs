//! A scripted registry: a server on a thread of its own, what it holds, what it is told, what it saw.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{HeaderMap, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pullthrough::oci::{Algorithm, Digest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::answer::answer;
use super::content::{Content, Image};
use super::lab::{self, Certificate};
use super::script::{Act, Line, matches};
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
}

impl Setup {
    /// TLS, HTTP/1.1 and HTTP/2, on 127.0.0.1.
    pub(crate) fn named(name: &str) -> Self {
        let ip = Ipv4Addr::LOCALHOST.into();
        Self { names: vec![name.to_owned()], ip, certificate: Some(Certificate::Good), h2: true }
    }
}

/// One request, as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    /// The name asked for: `:authority` or Host.
    pub(crate) authority: String,
    /// Which of the accepted connections it came over, from 1.
    pub(crate) connection: usize,
    /// The answer's status, once there is one.
    pub(crate) status: Option<u16>,
}

/// A server that runs until it is stopped or dropped.
pub(crate) struct Registry {
    shared: Arc<Shared>,
    setup: Setup,
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

pub(super) struct Shared {
    pub(super) content: Arc<Mutex<Content>>,
    pub(super) tokens: Mutex<Option<Tokens>>,
    pub(super) uploaded: AtomicU64,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    hanging: AtomicBool,
}

#[derive(Default)]
struct Script {
    lines: Vec<(Line, String, Act, Option<usize>)>,
    next: usize,
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
        let shared = Arc::new(Shared {
            content,
            tokens: Mutex::default(),
            uploaded: AtomicU64::new(0),
            script: Mutex::default(),
            seen: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            hanging: AtomicBool::new(false),
        });
        let address = SocketAddr::new(setup.ip, 0);
        let mut registry = Self { shared, setup, address, running: None };
        registry.start_again();
        registry
    }

    /// Listens and answers again, on the same port, with the same content, script and memory.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "it is running");
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let tls = self.setup.certificate.map(|certificate| {
            let alpn: &[&[u8]] = if self.setup.h2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
            TlsAcceptor::from(lab::server_config(&self.setup.names, certificate, alpn))
        });
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, tls, shared) => {}
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
        self.address
    }

    /// The certificate to trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        lab::ca_file()
    }

    /// `https://NAME:PORT`, or `http://...`.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.setup.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.name(), self.address.port())
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
        let mut script = self.shared.script.lock().unwrap();
        script.next += 1;
        let line = Line(script.next);
        script.lines.push((line, pattern.to_owned(), act, times));
        line
    }

    pub(crate) fn unscript(&self, line: Line) {
        self.shared.script.lock().unwrap().lines.retain(|(one, ..)| *one != line);
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

impl Shared {
    /// Writes a request down; its place is for [`Shared::answered`].
    pub(super) fn see(&self, seen: Seen) -> usize {
        let mut list = self.seen.lock().unwrap();
        list.push(seen);
        list.len() - 1
    }

    pub(super) fn answered(&self, place: usize, status: u16) {
        if let Some(seen) = self.seen.lock().unwrap().get_mut(place) {
            seen.status = Some(status);
        }
    }

    /// What the script has for a request; lines that are for a number of times are used up by it.
    pub(super) fn acts(&self, method: &str, path: &str) -> Vec<Act> {
        let mut acts = Vec::new();
        for (_, pattern, act, left) in &mut self.script.lock().unwrap().lines {
            if *left == Some(0) || !matches(pattern, method, path) {
                continue;
            }
            *left = left.map(|left| left - 1);
            acts.push(act.clone());
        }
        acts
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let connection = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(connected(stream, tls.clone(), Arc::clone(&shared), connection));
    }
}

async fn connected(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>, connection: usize) {
    let _open = Open::new(&shared);
    if shared.hanging.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, &shared, connection).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, &shared, connection).await;
            }
        }
    }
}

async fn serve<S>(stream: S, shared: &Arc<Shared>, connection: usize)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(Arc::clone(shared), connection, request));
    // A connection that breaks is often what the test is about.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// Counts a connection as open.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
