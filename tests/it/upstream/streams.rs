//! HTTP/2 peers that serve few streams at a time, or end a connection under many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use pullthrough::upstream::waiting;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

const PATIENCE: Duration = Duration::from_secs(8);

async fn soon<T>(asked: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, asked).await.expect("nobody waits for a stream")
}

#[tokio::test]
async fn downloads_hold_up_neither_questions_nor_each_other() {
    for streams in [1, 2, 3] {
        let registry = Registry::with(Setup { streams: Some(streams), ..Setup::named("quay.io") });
        let digest = registry.push_blob("a", vec![7; 300_000]);
        let gate = Gate::new();
        registry.script("*/blobs/*", Act::Hold(100_000, gate.clone()));
        let (upstream, to) = (upstream(&Config::default(), &[&registry]), endpoint(&registry));
        let path = format!("/v2/a/blobs/{digest}");
        for is_cold in [true, false] {
            let downloads = (0..4).map(|_| upstream.download(&to, get(&path), Downloads::Wait));
            let answers = soon(futures_util::future::join_all(downloads)).await;
            for _ in 0..3 {
                bytes(soon(upstream.fetch(&to, get("/v2/"))).await.unwrap()).await.unwrap();
            }
            let heads = (0..4).map(|_| upstream.fetch(&to, Request::head("/v2/").body(()).unwrap()));
            assert!(soon(futures_util::future::join_all(heads)).await.iter().all(Result::is_ok));
            gate.open();
            for answer in answers {
                assert_eq!(soon(bytes(answer.unwrap())).await.unwrap().len(), 300_000);
            }
            let rounds = if is_cold { 1 } else { 2 };
            let asked = (registry.count("*/blobs/*"), registry.count("GET /v2/"), registry.count("HEAD /v2/"));
            assert_eq!(asked, (4 * rounds, 3 * rounds, 4 * rounds), "{streams}: each once");
        }
        assert!(upstream.is_well(&to));
    }
}

#[tokio::test]
async fn where_streams_are_many_one_connection_does() {
    let registry = Registry::start("quay.io");
    let digest = registry.push_blob("a", vec![7; 300_000]);
    let (upstream, to) = (upstream(&Config::default(), &[&registry]), endpoint(&registry));
    bytes(upstream.fetch(&to, get("/v2/")).await.unwrap()).await.unwrap();
    let path = format!("/v2/a/blobs/{digest}");
    let downloads = (0..16).map(|_| async {
        bytes(upstream.download(&to, get(&path), Downloads::Wait).await.unwrap()).await.unwrap().len()
    });
    assert_eq!(futures_util::future::join_all(downloads).await, [300_000; 16]);
    assert_eq!(registry.connections(), 1);
}

/// One HTTP/2 frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&[length[1], length[2], length[3], kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200`, which HPACK's table has.
const OK: [u8; 1] = [0x88];

fn settings(streams: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&3u16.to_be_bytes()[..], &streams.to_be_bytes()].concat())
}

/// A peer that answers each request of its first connections by frames of the test's choice: made of the request's number
/// on that connection, and its stream. A body it accepts. Later connections are the registry's.
struct Peer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Peer {
    async fn before(registry: &Registry, connections: usize, answer: fn(usize, u32) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), registry.address());
        let tls = lab::server_config(&[registry.name().to_owned()], Certificate::Good, &[b"h2"], false);
        let asked: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            for number in 0.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let (tls, asked) = (TlsAcceptor::from(Arc::clone(&tls)), Arc::clone(&counted));
                tokio::spawn(async move {
                    if number < connections {
                        play(client, tls, answer, asked).await;
                    } else {
                        let mut server = TcpStream::connect(behind).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn upstream(&self, registry: &Registry) -> (Upstream, Endpoint) {
        let config = EndpointConfig { address: Some(self.address), ..endpoint_config(registry) };
        let upstream =
            Upstream::new(&Config::default(), std::slice::from_ref(&config), AddressRules::default()).unwrap();
        (upstream, Endpoint::parse(&config).unwrap())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn play(client: TcpStream, tls: TlsAcceptor, answer: fn(usize, u32) -> Vec<u8>, asked: Arc<AtomicUsize>) {
    let Ok(mut stream) = tls.accept(client).await else { return };
    let mut preface = [0; 24];
    let _ = stream.read_exact(&mut preface).await;
    let _ = stream.write_all(&settings(100)).await;
    let (mut head, mut number) = ([0; 9], 0);
    while stream.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        let _ = stream.read_exact(&mut payload).await;
        let frames = match (head[3], head[4]) {
            (SETTINGS, 0) => frame(SETTINGS, 1, 0, &[]),
            (HEADERS, _) => {
                number += 1;
                asked.fetch_add(1, Ordering::SeqCst);
                answer(number, u32::from_be_bytes([head[5], head[6], head[7], head[8]]))
            }
            (DATA, flags) if flags & END_STREAM != 0 => {
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &OK)
            }
            _ => Vec::new(),
        };
        if stream.write_all(&frames).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_limit_that_is_lowered_under_a_download_holds_up_nobody() {
    let registry = Registry::start("quay.io");
    let begun = |_, stream| [frame(HEADERS, END_HEADERS, stream, &OK), settings(1)].concat();
    let peer = Peer::before(&registry, 1, begun).await;
    let (upstream, to) = peer.upstream(&registry);
    let digest = registry.push_blob("a", vec![7; 1000]);
    let path = format!("/v2/a/blobs/{digest}");
    let held = soon(upstream.download(&to, get(&path), Downloads::Wait)).await.unwrap();
    // The new limit comes right behind the head: the connection reads on by itself.
    for _ in 0..2 {
        bytes(soon(upstream.fetch(&to, get("/v2/"))).await.unwrap()).await.unwrap();
        let answer = soon(upstream.download(&to, get(&path), Downloads::Wait)).await.unwrap();
        assert_eq!(bytes(answer).await.unwrap().len(), 1000);
    }
    assert_eq!((peer.asked(), registry.count("GET *")), (1, 4));
    drop(held);
}

#[tokio::test]
async fn what_a_peer_leaves_unanswered_when_it_goes_away_is_asked_again_without_a_fault() {
    let last_stream = |number, stream| {
        let answered = [frame(HEADERS, END_HEADERS, stream, &OK), frame(DATA, END_STREAM, stream, b"{}")].concat();
        match number {
            1 => answered,
            2..5 => Vec::new(),
            _ => frame(GOAWAY, 0, 0, &[1u32.to_be_bytes(), 0u32.to_be_bytes()].concat()),
        }
    };
    let at_once = |number, _| match number {
        1..5 => Vec::new(),
        _ => frame(GOAWAY, 0, 0, &[0; 8]),
    };
    let refused = |_, stream| frame(RST_STREAM, 0, stream, &7u32.to_be_bytes());
    let cases: [(&str, fn(usize, u32) -> Vec<u8>, usize); 3] =
        [("last stream 1", last_stream, 4), ("last stream 0", at_once, 5), ("refused", refused, 5)];
    for (what, answer, asked_again) in cases {
        let registry = Registry::start("quay.io");
        let peer = Peer::before(&registry, 1, answer).await;
        let (upstream, to) = peer.upstream(&registry);
        let fetches = (0..5).map(|_| async { bytes(upstream.fetch(&to, get("/v2/")).await.unwrap()).await.unwrap() });
        assert_eq!(soon(futures_util::future::join_all(fetches)).await, ["{}"; 5], "{what}");
        assert_eq!((peer.asked(), registry.count("*")), (5, asked_again), "{what}");
        assert!(upstream.is_well(&to), "{what}");
    }
}

#[tokio::test]
async fn a_body_that_waits_is_sent_as_soon_as_a_peer_of_http_2_wants_it() {
    let registry = Registry::start("quay.io");
    let peer = Peer::before(&registry, 1, |_, stream| frame(HEADERS, END_HEADERS, stream, b"\x48\x03100")).await;
    let (upstream, to) = peer.upstream(&registry);
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        let request = waiting(Request::put("/v2/a/manifests/1").body(Body::full("x")).unwrap());
        assert_eq!(upstream.pass(&to, request).await.unwrap().status(), 200);
        quickest = quickest.min(begun.elapsed());
    }
    // Where it is not told, it waits for a second each time.
    assert!(quickest < Duration::from_millis(900), "{quickest:?}");
}
