//! Serves HTTP/1.1 or HTTP/2 on a connection, each request with a stream of its own, until the end or a drain.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};

use super::first_bytes::SpokenProtocol;
use crate::host::RequestId;
use crate::proxy::limit::{Connection, ConnectionOrder, Outgoing, Stream, Tasks, Usage};
use crate::proxy::state::Proxy;
use crate::wire::{Body, Coalesce, FIELDS, Received, Takes};

/// A request's answer to come. Boxed where it is made: what is wrapped around it and handed on is then a pointer.
pub(crate) type PendingAnswer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// The time between two requests, and for a request's head. Go itself closes an idle connection after 90 s.
const HEAD: Duration = Duration::from_secs(120);
/// One write of HTTP/1.1 coalesces up to this much (measured: with 1 MiB, 1,000 stalled readers held 1.4 GB).
const WRITE_BUFFER: usize = 64 << 10;
/// How many streams a connection of HTTP/2 may have: where there are many connections as few as clients should be able
/// to count on (RFC 9113, 6.5.2), since what each waits in takes memory, too.
const STREAMS: u32 = 250;
const STREAMS_OF_MANY: u32 = 100;
/// Threat: heads made to fill memory. A head of up to this size is read, in HTTP/1.1 and HTTP/2 alike (hyper's
/// `max_buf_size` is the one limit of both a head and a write); Go's own default is 1 MiB, registries' 8 to 64 KiB.
const HEAD_BYTES: u32 = 64 << 10;

impl Proxy {
    /// Serves HTTP on `stream` until it ends, or until its last request has finished in a drain. The handler gets the
    /// request's stream, which does not count against a limit yet.
    pub(crate) async fn serve_http<S, H>(
        &self,
        spoken: SpokenProtocol,
        stream: S,
        client: Arc<Usage>,
        handle: H,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Received>, Arc<Stream>) -> PendingAnswer + Clone + Send + 'static,
    {
        let asked = CancellationToken::new();
        let first = asked.clone();
        let lingerer = self.lingerer(client.address);
        let takes: Takes<Incoming> = Arc::new(move |body| lingerer.read_on(body));
        let answer = move |request: Request<Incoming>, stream: Arc<Stream>| {
            first.cancel();
            // Boxed: an idle connection keeps no room for it, and HTTP/2 moves it to a task of its own.
            let (id, span) = (RequestId::next(), debug_span!("request", method = %request.method()));
            let is_h1 = request.version() < Version::HTTP_2;
            let (request, is_left) = Received::of(request, &takes);
            let scope = id.enter(); // what is refused at once belongs to it, too
            let handled = handle(request, stream.clone());
            drop(scope);
            let answered = async move {
                let mut response = handled.await;
                if is_h1 && is_left.get() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            };
            let answer = Box::pin(id.scope(answered.instrument(span)));
            answer.map(|response| Ok::<_, Infallible>(response.map(|body| Outgoing::new(body, stream))))
        };
        if spoken == SpokenProtocol::Http2 {
            let stream = Coalesce::new(stream);
            let connected = self.limiter.connection(client, stream.is_blocked());
            let opened = connected.clone();
            let service = service_fn(move |request| answer(request, opened.open()));
            let connection = http2::Builder::new(Tasks(connected.clone()))
                .timer(TokioTimer::new())
                .max_concurrent_streams(if self.limiter.are_many() { STREAMS_OF_MANY } else { STREAMS })
                .keep_alive_interval(Duration::from_secs(60))
                .max_send_buf_size(512 << 10)
                .max_header_list_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            self.attend(connection, |c| c.graceful_shutdown(), &asked, &connected).await
        } else {
            let connected = self.limiter.connection(client, Arc::default());
            let opened = connected.clone();
            let service = service_fn(move |request| answer(request, opened.open_alone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(WRITE_BUFFER)
                .max_headers(FIELDS)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            self.attend(connection, |c| c.graceful_shutdown(), &asked, &connected).await
        }
    }

    /// Runs a connection until it ends; asks it to end after its last request when a drain has begun, or when
    /// `connected` is told so. Boxed, so that what a connection waits in is no larger than what it speaks.
    async fn attend<C>(
        &self,
        connection: C,
        finish: impl FnOnce(Pin<&mut C>),
        asked: &CancellationToken,
        connected: &Connection,
    ) -> io::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = Box::pin(connection);
        tokio::select! {
            biased; // what it waits for most
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = self.leaving(asked) => {}
            () = connected.told(ConnectionOrder::Finish) => {}
        }
        finish(connection.as_mut());
        tokio::select! {
            ended = connection => ended.map_err(io::Error::other),
            () = connected.told(ConnectionOrder::Close) => Ok(()),
        }
    }
}
