//! The door: a connection's first bytes say what it speaks, and its requests are handed on.
//!
//! The protocol is chosen by bytes, not by ALPN: Go negotiates h2 with an https proxy and then writes an
//! HTTP/1.1 CONNECT.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use http::uri::Scheme;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::bearers::Bearers;
use super::gateway::Gateway;
use super::guests::{Guesses, LocalTokens};
use super::limit::{self, Client, Clients, Stream};
use super::policy::Policy;
use super::refused::Asked;
use super::{connect, forward, intercept, lobby, own, refused, respond};
use crate::cache::Cache;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::wire::{self, Body, Guarded, Pseudonym, Rewind};

/// Threat: connections that are opened and left. A client that opened one to use it speaks within this time.
const FIRST_BYTE: Duration = Duration::from_secs(60);
/// How long a drain leaves to a connection that was accepted and has not asked for anything yet: its client was
/// not refused, so it gets its answer.
const GRACE: Duration = Duration::from_secs(1);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The proxy: what all connections share.
pub struct Proxy {
    /// The cache.
    pub cache: Cache,
    /// The store below it, for readiness and the catalog.
    pub store: Store,
    /// The metrics.
    pub metrics: Metrics,
    pub(super) bearers: Bearers,
    pub(super) guesses: Guesses,
    /// Who this is to other proxies.
    pub(super) pseudonym: Pseudonym,
    pub(super) gateway: Gateway,
    /// Tokens of our own, for while a registry is away.
    pub local: LocalTokens,
    policy: ArcSwap<Policy>,
    changed: watch::Sender<()>,
    pub(super) clients: Arc<Clients>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Proxy {
    /// A proxy under its first policy. Call within a runtime.
    #[must_use]
    pub fn new(cache: Cache, store: Store, metrics: Metrics, local: LocalTokens, policy: Policy) -> Arc<Self> {
        let clients = Clients::new(policy.limits);
        tokio::spawn(limit::keep_sweeping(Arc::downgrade(&clients)));
        Arc::new(Self {
            cache,
            store,
            metrics,
            bearers: Bearers::new(),
            guesses: Guesses::new(),
            pseudonym: Pseudonym::random(),
            gateway: Gateway::default(),
            local,
            policy: ArcSwap::from_pointee(policy),
            changed: watch::Sender::new(()),
            clients,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// What the configuration says now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Puts a new policy in force: for the next request of every connection, and for tunnels at once. Where it
    /// `asks_anew`, since registries or the way to them are others, what callers have proven is forgotten.
    pub fn adopt(&self, policy: Policy, asks_anew: bool) {
        let policy = policy.after(&self.policy());
        self.clients.adopt(policy.limits);
        self.policy.store(Arc::new(policy));
        if asks_anew {
            self.cache.forget_grants();
        }
        self.changed.send_replace(());
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Runs a task that a drain waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Serves one accepted connection in a task of its own; of one too many, only what it asks of the proxy itself.
    /// `TCP_NODELAY`, keep-alive and the time that its peer may take nothing are as its listener had them.
    pub fn serve(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let proxy = self.clone();
        let address = peer.ip().to_canonical();
        if !self.policy().admits(address) {
            return lobby::serve(self, stream, address, None);
        }
        let place = match self.clients.enter(address) {
            Ok(place) => place,
            Err(refusal) => return lobby::serve(self, stream, address, Some(refusal)),
        };
        self.spawn(async move {
            let client = place.client().clone();
            // Both count for as long as the socket is open, also behind a CONNECT, when this task has ended.
            let stream = Guarded::new(stream, (place, proxy.metrics.connection("proxy")));
            let door = proxy.clone();
            let handle = move |request, stream| answer(door.clone(), address, request, stream);
            if let Err(error) = proxy.serve_stream(stream, address, client, handle).await {
                debug!(client = %address, %error, "connection ended");
            }
        });
    }

    pub(super) async fn serve_stream<S, H, F>(
        &self,
        stream: S,
        address: IpAddr,
        client: Arc<Client>,
        handle: H,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Incoming>, Arc<Stream>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let Some((spoken, stream)) = self.sniff(stream).await? else { return Ok(()) };
        let served = match spoken {
            Spoken::Tls => {
                let accepted = intercept::accept_own(self, address, stream).await;
                let Some(stream) = accepted else { return Ok(()) };
                let Some((spoken, stream)) = self.sniff(stream).await? else { return Ok(()) };
                let handle = move |mut request: Request<Incoming>, stream| {
                    request.extensions_mut().insert(ByTls);
                    handle(request, stream)
                };
                self.serve_http(spoken, stream, client, handle).await
            }
            spoken => self.serve_http(spoken, stream, client, handle).await,
        };
        served.inspect_err(|error| refused::note_unread(&self.policy().house, address, None, None, error))
    }

    /// As [`sniff`]; a connection that does not speak holds a drain for a moment only.
    pub(super) async fn sniff<S: AsyncRead + Unpin>(&self, stream: S) -> io::Result<Option<(Spoken, Rewind<S>)>> {
        let asked = CancellationToken::new(); // not yet
        tokio::select! {
            told = sniff(stream) => told,
            () = self.leaving(&asked) => Ok(None),
        }
    }

    /// Comes back when a drain has begun and a connection may be closed between two requests: at once if it
    /// has `asked` before.
    pub(super) async fn leaving(&self, asked: &CancellationToken) {
        self.stop.cancelled().await;
        let _ = tokio::time::timeout(GRACE, asked.cancelled()).await;
    }

    /// How many connections of clients there are and may be, and how many requests under way.
    #[must_use]
    pub fn usage(&self) -> [(usize, usize); 2] {
        self.clients.usage()
    }

    /// What was refused or given up as there was too much of it: why, and how often.
    #[must_use]
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.clients.refused()
    }

    /// Lets requests under way finish and takes no new ones; tunnels end when `deadline` passes. Answers
    /// whether all had ended by then.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}

/// Marks a request that came to the proxy itself by TLS.
#[derive(Clone, Copy, Debug)]
struct ByTls;

/// One request at the door itself, not inside an intercepted connection.
pub(super) async fn answer(
    proxy: Arc<Proxy>,
    client: IpAddr,
    request: Request<Incoming>,
    stream: Arc<Stream>,
) -> Response<Body> {
    let asked = Asked::of(&proxy.policy().house, client, &request);
    let mut user = None;
    let mut response = received(&proxy, client, request, stream, &mut user).await;
    if let Some(asked) = asked {
        asked.note(&proxy.policy().house, user, None, &mut response);
    }
    response
}

/// The same; `user` is who it was found to be.
async fn received(
    proxy: &Arc<Proxy>,
    client: IpAddr,
    request: Request<Incoming>,
    stream: Arc<Stream>,
    user: &mut Option<Arc<str>>,
) -> Response<Body> {
    let is_stranger = !proxy.policy().admits(client);
    if is_stranger && !own::is_for_anybody(&request) {
        return own::stranger(proxy, client, &request);
    }
    let connects = request.method() == Method::CONNECT;
    if let Some(flaw) = wire::malformed(&request) {
        let failure = respond::malformed(flaw);
        return own::turned_away(proxy, client, &request, respond::last_of_connection(failure.respond()));
    }
    // HTTP/2 names a host in any case: it is another one's where the scheme is.
    let by = if request.extensions().get::<ByTls>().is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let is_own = request.version() == Version::HTTP_2 && request.uri().scheme() == Some(&by);
    let proxied = connects || (request.uri().authority().is_some() && !is_own);
    if is_stranger && proxied {
        return own::stranger(proxy, client, &request);
    }
    if proxied {
        // The proxy's own pages need no password: the CA is fetched before anything else can work.
        let visitor = match proxy.policy().house.admit(client, request.headers()).await {
            Ok(visitor) => visitor,
            Err(refusal) => return own::turned_away(proxy, client, &request, *refusal),
        };
        user.clone_from(&visitor.user);
        if proxy.pseudonym.is_in(request.headers()) {
            return own::turned_away(proxy, client, &request, respond::looped());
        }
        if connects {
            return connect::answer(proxy, visitor, request).await;
        }
        // To a host of its choice, over a connection of its own: counted as a tunnel there.
        return match proxy.clients.of(client).tunnel() {
            Ok(tunnel) => {
                let response = Box::pin(forward::absolute(proxy, client, request)).await;
                stream.keep(tunnel);
                response
            }
            Err(refusal) => own::refused(proxy, client, &request, &refusal),
        };
    }
    Box::pin(own::answer(proxy, client, &request)).await
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Tls,
    Http1,
    Http2,
}

/// Reads just enough to tell; `None` if the client closed without a word. A partial preface has the same
/// deadline as the first byte.
pub(super) async fn sniff<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Option<(Spoken, Rewind<S>)>> {
    let mut ahead = BytesMut::with_capacity(512);
    let told = tokio::time::timeout(FIRST_BYTE, async {
        loop {
            if stream.read_buf(&mut ahead).await? == 0 {
                return Ok::<_, io::Error>(None);
            }
            if let Some(spoken) = tell(&ahead) {
                return Ok(Some(spoken));
            }
        }
    });
    let spoken = told.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(spoken.map(|spoken| (spoken, Rewind::new(ahead.freeze(), stream))))
}

/// `None` while the bytes are a beginning of the HTTP/2 preface (RFC 9113, 3.4).
pub(super) fn tell(ahead: &[u8]) -> Option<Spoken> {
    const TLS_HANDSHAKE: u8 = 22;
    match ahead.first()? {
        &TLS_HANDSHAKE => Some(Spoken::Tls),
        _ if ahead.starts_with(PREFACE) => Some(Spoken::Http2),
        _ if PREFACE.starts_with(ahead) => None,
        _ => Some(Spoken::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let table: [(&[u8], Option<Spoken>); 7] = [
            (b"", None),
            (b"\x16\x03\x01", Some(Spoken::Tls)),
            (b"CONNECT quay.io:443 HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\n", None),
            (PREFACE, Some(Spoken::Http2)),
            (b"PUT / HTTP/1.1\r\n", Some(Spoken::Http1)),
        ];
        for (bytes, expected) in table {
            assert_eq!(tell(bytes), expected, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_partial_preface_has_a_deadline() {
        let (mut client, server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"PRI * HT").await.unwrap();
        let error = sniff(server).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
