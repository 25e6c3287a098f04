//! Answers that come before the request's body was read: they reach also a client that sends all before it reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pullthrough::proxy::Door;
use pullthrough::wire::{Body, BodyError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rest;
use crate::pull::QUAY;
use crate::support::{Plan, Proxy, Registry, eventually, until};

const PIECE: usize = 64 << 10;
/// More than the system holds of what is sent and not read.
const PIECES: usize = 384;

async fn refusing() -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "push: deny").mirror("default: quay.io");
    let proxy = plan.doors("transparent: '127.0.0.1:0'").start().await;
    (registry, proxy)
}

/// Sends a request whole, and then reads the answer to the connection's end.
async fn send_all_first<S>(what: &str, mut stream: S, target: &str, host: &str, expects: &str) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let length = PIECE * PIECES;
    let head = format!("PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{expects}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in 0..PIECES {
        let sent = stream.write_all(&[0; PIECE]).await;
        sent.unwrap_or_else(|error| panic!("{what}: after {piece} pieces: {error}"));
    }
    stream.flush().await.unwrap();
    String::from_utf8(rest(&mut stream).await).unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_sends_all_before_it_reads_at_every_door() {
    let (registry, proxy) = refusing().await;
    let path = "/v2/a/manifests/1";
    let (plain, client) = (TcpStream::connect, proxy.client());
    let at_mirror = proxy.mirror_client();
    let outer = plain(proxy.address()).await.unwrap();
    let (mut outer, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(outer)).await.unwrap();
    tokio::spawn(connection);
    let connect = Request::connect(QUAY).body(Body::empty()).unwrap();
    let over_h2 = hyper::upgrade::on(outer.send_request(connect).await.unwrap()).await.unwrap();
    let over_h2 = client.tls_over(TokioIo::new(over_h2), "quay.io").await.unwrap();
    let by_name = client.tls_over(plain(proxy.door(Door::Transparent)).await.unwrap(), "quay.io").await.unwrap();
    let answers = [
        send_all_first("inside", client.tls(QUAY).await.unwrap(), path, "quay.io", "").await,
        send_all_first("inside, over HTTP/2", over_h2, path, "quay.io", "").await,
        send_all_first("by name", by_name, path, "quay.io", "").await,
        send_all_first("mirror", plain(proxy.mirror()).await.unwrap(), path, "localhost", "").await,
        send_all_first("mirror, TLS", at_mirror.tls("localhost:443").await.unwrap(), path, "localhost", "").await,
        send_all_first("own", plain(proxy.address()).await.unwrap(), "/healthz", "localhost", "").await,
        send_all_first("absolute", plain(proxy.address()).await.unwrap(), "http://quay.io/", "quay.io", "").await,
        // Who does not wait although it said so.
        send_all_first("expects", client.tls(QUAY).await.unwrap(), path, "quay.io", "Expect: 100-continue\r\n").await,
    ];
    for answer in answers {
        assert!(answer.starts_with("http/1.1 40"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nconnection: close"), "{answer}");
        assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())) && !body.is_empty(), "{answer}");
    }
    assert_eq!(registry.requests().len(), 0);
    let open = async || proxy.metric("pullthrough_connections{door=\"mirror\"}").await;
    until("nothing lingers where its client has left", async || open().await == 0.0).await;
}

#[tokio::test]
async fn a_stream_of_http_2_is_read_on_behind_its_early_answer() {
    let (_registry, proxy) = refusing().await;
    for (client, authority) in [(proxy.client(), QUAY), (proxy.mirror_client(), "localhost:443")] {
        let client = client.h2();
        let mut session = client.session(authority).await;
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let pieces = futures_util::stream::iter(0..PIECES).map(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[0; PIECE])))
        });
        let body = Body::wrap(StreamBody::new(pieces));
        let answer = session.send("PUT", "/v2/a/manifests/1", &[], body).await.unwrap();
        assert_eq!(answer.status(), 405);
        assert!(!answer.into_body().collect().await.unwrap().to_bytes().is_empty());
        eventually("all of it could be sent", || sent.load(Ordering::SeqCst) == PIECES).await;
        assert_eq!(session.get("/v2/").await.status, 200);
    }
}

#[tokio::test]
async fn a_drain_waits_for_nothing_that_is_left_of_a_body() {
    let (_registry, mut proxy) = refusing().await;
    let client = proxy.client();
    let endless = || {
        let pieces = futures_util::stream::repeat_with(|| Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x"))));
        let slowly = pieces.then(async |piece| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            piece
        });
        Body::wrap(StreamBody::new(Box::pin(slowly)))
    };
    let (mut h1, mut h2) = (client.session(QUAY).await, client.h2().session(QUAY).await);
    for session in [&mut h1, &mut h2] {
        let answer = session.send("PUT", "/v2/a/manifests/1", &[], endless()).await.unwrap();
        assert_eq!(answer.status(), 405);
    }
    assert!(proxy.stop().await, "in ten seconds");
}
