//! Serves one accepted connection and hands each request on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::Scheme;
use http::{Method, Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span};

use super::first_bytes::{SpokenProtocol, sniff};
use super::http::PendingAnswer;
use super::{connect, intercept, overload, pages};
use crate::proxy::clients::refused;
use crate::proxy::clients::refused::RefusedRequest;
use crate::proxy::limit::{Stream, Usage};
use crate::proxy::respond::Rendered;
use crate::proxy::site::{Arrival, Door};
use crate::proxy::state::Proxy;
use crate::proxy::{forward, mirror, respond};
use crate::wire::{self, Body, Guarded, Received, Rewind};

impl Proxy {
    /// Serves one accepted connection in a task of its own; beyond the limits, only requests for the proxy itself.
    /// The listener has set `TCP_NODELAY`, keep-alive and the time that a peer may take nothing.
    pub fn serve(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, door: Door) {
        let proxy = self.clone();
        let address = peer.ip().to_canonical();
        let from = Arrival { address, door };
        if !self.policy().admits(address) {
            return overload::serve(self, stream, from, None);
        }
        let place = match self.limiter.enter(address) {
            Ok(place) => place,
            Err(refusal) => return overload::serve(self, stream, from, Some(refusal)),
        };
        let span = debug_span!("connection", client = %address);
        let served = async move {
            let client = place.client().clone();
            // Both count for as long as the socket is open, also behind a CONNECT, when this task has ended.
            let stream = Guarded::new(stream, (place, proxy.metrics.connection(door.label())));
            let handed = proxy.clone();
            let handle =
                move |request, stream| -> PendingAnswer { Box::pin(answer(handed.clone(), from, request, stream)) };
            if let Err(error) = proxy.serve_stream(stream, from, client, handle).await {
                debug!(client = %address, %error, "connection ended");
            }
        };
        self.spawn(served.instrument(span));
    }

    pub(crate) async fn serve_stream<S, H>(
        &self,
        stream: S,
        from: Arrival,
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
                let accepted = intercept::accept_own(self, from, stream).await;
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

/// Marks a request that came to the proxy itself by TLS.
#[derive(Clone, Copy, Debug)]
struct ByTls;

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
            return connect::answer(proxy, client, request).await;
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
