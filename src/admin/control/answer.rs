//! Serves one control connection: reads requests, runs commands on a blocking thread, sends events as they come.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::protocol::{ORDER_LIMIT, PREFIX, ReplyLine, sentence};
use crate::cache::{Command, Inventory, Order};
use crate::wire::{self, Body, collect};

const HEAD: Duration = Duration::from_secs(30);
/// The most lines that wait for a slow reader.
const AHEAD: usize = 256;

/// The state that serves a connection.
#[derive(Clone)]
struct Handler {
    inventory: Inventory,
    turns: Arc<Semaphore>,
    stop: CancellationToken,
}

pub(super) async fn serve(stream: UnixStream, inventory: Inventory, turns: Arc<Semaphore>, stop: CancellationToken) {
    let handler = Handler { inventory, turns, stop: stop.clone() };
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(answer(request, handler).await) }
    });
    let mut builder = http1::Builder::new();
    let connection =
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = connection => ended,
        () = stop.cancelled() => return,
    };
    if let Err(error) = ended {
        debug!(%error, "control connection ended");
    }
}

async fn answer(request: Request<Incoming>, handler: Handler) -> Response<Body> {
    if let Some(flaw) = wire::malformed(&request) {
        let mut response = refuse(flaw.status(), flaw.to_string());
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let Some(command) = request.uri().path().strip_prefix(PREFIX).map(str::to_owned) else {
        return refuse(StatusCode::NOT_FOUND, format!("{} does not know {}", this(), request.uri().path()));
    };
    if request.method() != Method::POST {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "commands must be sent by POST".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Ok(command) = serde_json::from_value::<Command>(command.clone().into()) else {
        return refuse(StatusCode::NOT_FOUND, format!("{} does not know the command {command}", this()));
    };
    let body = match collect(request.into_body(), ORDER_LIMIT).await {
        Ok(body) => body,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, sentence(&error)),
    };
    match serde_json::from_slice::<Order>(&body) {
        Ok(order) if order.command == command => run(order, handler).await,
        Ok(_) => refuse(StatusCode::BAD_REQUEST, "the body names another command than the path".to_owned()),
        Err(error) => refuse(StatusCode::BAD_REQUEST, format!("{} does not understand the command: {error}", this())),
    }
}

async fn run(order: Order, handler: Handler) -> Response<Body> {
    let Ok(turn) = handler.turns.acquire_owned().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping".to_owned());
    };
    info!(command = order.command.as_str(), name = order.name.as_deref(), "running a command from the control socket");
    let (lines, mut told) = mpsc::channel::<ReplyLine>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut tell = |event| {
            let left = handler.stop.is_cancelled() || lines.blocking_send(ReplyLine::Event(event)).is_err();
            if left { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let last = match handler.inventory.run(&order, &mut tell) {
            Ok(()) if handler.stop.is_cancelled() => ReplyLine::Failed("the server is stopping".to_owned()),
            Ok(()) => ReplyLine::End,
            Err(error) => ReplyLine::Failed(sentence(&error)),
        };
        let _ = lines.blocking_send(last); // the client may have left
    });
    let frames = futures_util::stream::poll_fn(move |cx| {
        told.poll_recv(cx).map(|line| line.map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(line.text())))))
    });
    let mut response = Response::new(Body::wrap(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

fn this() -> String {
    format!("the running server (pullthrough {})", env!("CARGO_PKG_VERSION"))
}

fn refuse(status: StatusCode, words: String) -> Response<Body> {
    let mut response = Response::new(Body::full(ReplyLine::Failed(words).text()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}
