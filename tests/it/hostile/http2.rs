//! HTTP/2: an honest server inside, and a hand that changes its frames on their way out.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pullthrough::wire::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::frames::{DATA, END_STREAM, Frame, HEADERS};
use super::honest::{Answer, Asked};
use super::site::{Phase, Site};
use super::steps::{Next, play};

/// Serves one connection, all of which is for this registry.
pub(super) async fn serve(stream: TlsStream<TcpStream>, site: Arc<Site>) {
    let (outside, inside) = tokio::io::duplex(1 << 20);
    // Streams are numbered 1, 3, 5, in the order of their requests.
    let rests = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let (site, rests) = (Arc::clone(&site), Arc::clone(&rests));
        service_fn(move |request: Request<Incoming>| {
            rests.lock().unwrap().push(request.headers().contains_key("range"));
            answer(Arc::clone(&site), request)
        })
    };
    let server =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(inside), service);
    let server = tokio::spawn(async move { drop(server.await) });
    let (mut from_client, mut to_client) = tokio::io::split(stream);
    let (mut from_server, mut to_server) = tokio::io::split(outside);
    let inward = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    });
    let mut read = Vec::new();
    let mut places = std::collections::HashMap::new();
    while from_server.read_buf(&mut read).await.is_ok_and(|length| length > 0) {
        while let Some((frame, length)) = Frame::read(&read) {
            read.drain(..length);
            let is_answer = matches!(frame.kind, HEADERS | DATA) && site.phase() == Phase::Attack;
            let steps = if is_answer {
                let place = places.entry(frame.stream).or_insert(0_usize);
                *place += 1;
                let is_rest = rests.lock().unwrap().get(frame.stream as usize / 2).copied().unwrap_or_default();
                site.kind.tamper(&frame, *place - 1, is_rest)
            } else {
                vec![super::steps::Step::Say(frame.bytes())]
            };
            let mut out = tokio::io::join(tokio::io::empty(), &mut to_client);
            let next = tokio::select! {
                next = play(&mut out, &steps) => next,
                () = site.healed(), if is_answer => Next::Close,
            };
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                site.answered();
            }
            if next != Next::Serve {
                inward.abort();
                server.abort();
                return;
            }
        }
    }
}

async fn answer(site: Arc<Site>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        host: head.uri.host().unwrap_or_default().to_owned(),
        agent: text("user-agent").unwrap_or_default(),
        range: text("range"),
        authorization: text("authorization"),
    };
    let _ = body.collect().await;
    site.see(&asked);
    Ok(response(&site.answer(&asked), &asked))
}

fn response(answer: &Answer, asked: &Asked) -> Response<Body> {
    let body = if asked.is_head() { Body::empty() } else { Body::full(answer.body.clone()) };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status.try_into().unwrap();
    let fields = answer
        .headers
        .iter()
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap()));
    *response.headers_mut() = fields.collect::<HeaderMap>();
    response.headers_mut().insert("content-length", answer.body.len().into());
    response
}
