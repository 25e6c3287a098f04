//! Serves one accepted connection and hands each request on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Method, Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, warn};

use super::first_bytes::{SpokenProtocol, sniff};
use super::http::PendingAnswer;
use super::lingering::Lingering;
use super::pages::ByTls;
use super::transparent::ConnectionEnds;
use super::{connect, intercept, overload, pages, transparent};
use crate::host::LogThrottle;
use crate::proxy::clients::refused;
use crate::proxy::clients::refused::RefusedRequest;
use crate::proxy::limit::{Stream, Usage};
use crate::proxy::respond::Rendered;
use crate::proxy::site::{Arrival, Door};
use crate::proxy::state::Proxy;
use crate::proxy::{forward, mirror, respond};
use crate::wire::{self, Body, ClientSocket, Guarded, Received, Rewind, SpokenFor};

/// A balancer sends its header with the first bytes, before those of its client.
const HEADER: Duration = Duration::from_secs(10);

static SAID: LogThrottle = LogThrottle::new();

impl Proxy {
    /// Serves one accepted connection in a task of its own; beyond the limits, only requests for the proxy itself.
    /// The listener has set `TCP_NODELAY`, keep-alive and the time that a peer may take nothing.
    pub fn serve(self: &Arc<Self>, socket: ClientSocket, peer: SocketAddr, door: Door) {
        let address = peer.ip().to_canonical();
        // Of the address that a client connected to, only these doors want to know.
        let to = if door == Door::Proxy { None } else { socket.destination() };
        let ends = ConnectionEnds { client: peer, to };
        if !self.policy().is_balancer(address) {
            return self.begin(Rewind::new(Bytes::new(), socket), Arrival { address, door }, ends);
        }
        let proxy = self.clone();
        self.spawn(async move {
            let Some((stream, spoken_for)) = proxy.introduced(socket, peer).await else { return };
            match spoken_for {
                SpokenFor::Itself => proxy.begin(stream, Arrival { address, door }, ends),
                SpokenFor::Client { from, to } => {
                    let ends = ConnectionEnds { client: from, to: Some(to) };
                    proxy.begin(stream, Arrival { address: from.ip().to_canonical(), door }, ends);
                }
            }
        });
    }

    /// The connection behind the header of the PROXY protocol, if `peer` is a balancer, and whom it speaks for. `None`
    /// where that does not come: it is required from a balancer, whose clients could bring their own otherwise. Cancel-safe.
    pub async fn introduced(
        &self,
        mut socket: ClientSocket,
        peer: SocketAddr,
    ) -> Option<(Rewind<ClientSocket>, SpokenFor)> {
        let address = peer.ip().to_canonical();
        if !self.policy().is_balancer(address) {
            return Some((Rewind::new(Bytes::new(), socket), SpokenFor::Itself));
        }
        let _place = self.introductions.take()?;
        let not_yet = CancellationToken::new();
        let read = tokio::select! {
            read = tokio::time::timeout(HEADER, wire::read_header(&mut socket)) => read,
            () = self.leaving(&not_yet) => return None,
        };
        let error = match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Some((spoken_for, ahead))) => return Some((Rewind::new(ahead, socket), spoken_for)),
            Ok(None) => return None, // a check whether anybody listens
            Err(error) => error,
        };
        self.metrics.handshake_failure("proxy_header");
        if SAID.is_due() {
            warn!(
                balancer = %address, %error,
                "closed a connection without a header of the PROXY protocol: listen.proxy_protocol lists its peer, so each \
                 connection from there must begin with one"
            );
        }
        None
    }

    /// Serves a connection that comes `from` there and has these ends.
    fn begin(self: &Arc<Self>, stream: Rewind<ClientSocket>, from: Arrival, ends: ConnectionEnds) {
        let proxy = self.clone();
        let Arrival { address, door } = from;
        if !self.policy().admits(address) {
            return overload::serve(self, stream, from, ends, None);
        }
        let place = match self.limiter.enter(address) {
            Ok(place) => place,
            Err(refusal) => return overload::serve(self, stream, from, ends, Some(refusal)),
        };
        let span = debug_span!("connection", client = %address);
        let served = async move {
            let client = place.client().clone();
            // Both count for as long as the socket is open, also behind a CONNECT, when this task has ended.
            let stream = Guarded::new(stream, (place, proxy.metrics.connection(door.label())));
            let stream = Lingering::new(stream, Some(proxy.lingerer(address)));
            if door == Door::Transparent {
                return transparent::serve(proxy, from, ends, Box::new(stream), None).await;
            }
            let handed = proxy.clone();
            let handle =
                move |request, stream| -> PendingAnswer { Box::pin(answer(handed.clone(), from, request, stream)) };
            if let Err(error) = proxy.serve_stream(stream, (from, ends.to), client, handle).await {
                debug!(client = %address, %error, "connection ended");
            }
        };
        self.spawn(served.instrument(span));
    }

    pub(crate) async fn serve_stream<S, H>(
        &self,
        stream: S,
        (from, to): (Arrival, Option<SocketAddr>),
        client: Arc<Usage>,
        handle: H,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Received>, Arc<Stream>) -> PendingAnswer + Clone + Send + 'static,
    {
        let Some((spoken, stream)) = self.sniff(stream).await? else { return Ok(()) };
        let served = match spoken {
            SpokenProtocol::Tls => {
                let accepted = intercept::accept_own(self, from, to, stream).await;
                let Some(stream) = accepted else { return Ok(()) };
                let Some((spoken, stream)) = self.sniff(stream).await? else { return Ok(()) };
                let handle = move |mut request: Request<Received>, stream| {
                    request.extensions_mut().insert(ByTls);
                    handle(request, stream)
                };
                self.serve_http(spoken, stream, client, handle).await
            }
            spoken => self.serve_http(spoken, stream, client, handle).await,
        };
        served.inspect_err(|error| refused::note_unread(&self.policy().clients, from.address, None, None, error))
    }

    /// As [`sniff`]; a silent connection delays a drain for a moment only.
    pub(crate) async fn sniff<S: AsyncRead + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<Option<(SpokenProtocol, Rewind<S>)>> {
        let asked = CancellationToken::new(); // not yet
        tokio::select! {
            told = sniff(stream) => told,
            () = self.leaving(&asked) => Ok(None),
        }
    }
}

/// Answers one request outside an intercepted connection.
pub(crate) async fn answer(
    proxy: Arc<Proxy>,
    from: Arrival,
    request: Request<Received>,
    stream: Arc<Stream>,
) -> Response<Body> {
    let asked = RefusedRequest::of(&proxy.policy().clients, from.address, &request);
    let mut user = None;
    let Rendered { response, declined, .. } = received(&proxy, from, request, stream, &mut user).await;
    if let (Some(asked), Some(reason)) = (asked, declined) {
        asked.note(&proxy.policy().clients, user, None, response.status(), &reason);
    }
    response
}

/// Answers it. `user` is set to the user that the client has proven to be.
async fn received(
    proxy: &Arc<Proxy>,
    from: Arrival,
    request: Request<Received>,
    stream: Arc<Stream>,
    user: &mut Option<Arc<str>>,
) -> Rendered {
    let is_unknown = !proxy.policy().admits(from.address);
    if is_unknown && !pages::is_for_anybody(&request) {
        return pages::unknown_client(proxy, from, &request);
    }
    let connects = request.method() == Method::CONNECT;
    if let Some(flaw) = wire::malformed(&request) {
        let failure = respond::malformed(flaw);
        return pages::turned_away(proxy, from, &request, "malformed", &failure.closing());
    }
    // HTTP/2 names a host in any case: it is another one's where the scheme is.
    let by = if request.extensions().get::<ByTls>().is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let is_own = request.version() == Version::HTTP_2 && request.uri().scheme() == Some(&by);
    let is_mirror = from.door == Door::Mirror;
    if is_mirror && connects {
        let refusal = respond::no_method("this is a registry mirror and no proxy: the proxy listens on listen.proxy");
        return pages::turned_away(proxy, from, &request, "refuse", &refusal);
    }
    let proxied = !is_mirror && (connects || (request.uri().authority().is_some() && !is_own));
    if is_unknown && proxied {
        return pages::unknown_client(proxy, from, &request);
    }
    if proxied {
        // The proxy's own pages need no password: the CA is fetched before anything else can work.
        let client = match proxy.policy().clients.admit(from, request.headers()).await {
            Ok(client) => client,
            Err(refusal) => return pages::turned_away(proxy, from, &request, "login", &refusal),
        };
        user.clone_from(&client.user);
        if proxy.pseudonym.is_in(request.headers()) {
            return pages::turned_away(proxy, from, &request, "loop", &respond::looped());
        }
        if connects {
            return connect::answer(proxy, client, request, stream).await;
        }
        // To a host of its choice, over a connection of its own: counted as a tunnel there.
        return match proxy.limiter.of(from.address).tunnel() {
            Ok(tunnel) => {
                let response = Box::pin(forward::absolute(proxy, client, request)).await;
                stream.keep(tunnel);
                response
            }
            Err(refusal) => pages::refused(proxy, from, &request, &refusal).into(),
        };
    }
    if mirror::answer::is_for_registry(&request) {
        return Box::pin(mirrored(proxy, from, &by, request, &stream, user)).await;
    }
    Box::pin(pages::answer(proxy, from, &request)).await
}

/// Answers a request for a registry that names it in another way than by its host.
async fn mirrored(
    proxy: &Arc<Proxy>,
    from: Arrival,
    by: &Scheme,
    request: Request<Received>,
    stream: &Stream,
    user: &mut Option<Arc<str>>,
) -> Rendered {
    let client = match proxy.policy().clients.admit_to_mirror(from, request.headers()).await {
        Ok(client) => client,
        Err(refusal) => return pages::turned_away(proxy, from, &request, "login", &refusal),
    };
    user.clone_from(&client.user);
    if let Err(refusal) = stream.admit(&request) {
        return pages::refused(proxy, from, &request, &refusal).into();
    }
    let scheme = if *by == Scheme::HTTPS { "https" } else { "http" };
    mirror::answer::answer(proxy, &client, scheme, request).await
}
