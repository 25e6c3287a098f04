//! The PROXY protocol: a listed balancer's header says who the client is, and nobody else's does.

use std::net::SocketAddr;

use pullthrough::proxy::Door;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{from, open, rest};
use crate::pull::{QUAY, layer};
use crate::support::client::Client;
use crate::support::{Log, Plan, Proxy, Registry, eventually};

const BALANCER: &str = "127.0.0.5";
const DOORS: &str = "transparent: '127.0.0.1:0', proxy_protocol: ['127.0.0.5/32']";

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.1 4000 443\r\n").into_bytes()
}

fn v2(command: u8, client: [u8; 4], more: &[u8]) -> Vec<u8> {
    let addresses = [&client[..], &[192, 0, 2, 1], &4000_u16.to_be_bytes(), &443_u16.to_be_bytes(), more].concat();
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11], &length, &addresses].concat()
}

async fn behind(header: &[u8], to: SocketAddr) -> TcpStream {
    let mut stream = from(BALANCER, to).await;
    stream.write_all(header).await.unwrap();
    stream
}

/// The status of a CONNECT for a registry, 0 where there is no answer.
async fn connected(mut stream: TcpStream) -> u16 {
    let _ = stream.write_all(format!("CONNECT {QUAY} HTTP/1.1\r\nhost: {QUAY}\r\n\r\n").as_bytes()).await;
    let mut answer = [0; 12];
    match tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await {
        Ok(_) => std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap(),
        Err(_) => 0,
    }
}

async fn failures(proxy: &Proxy) -> f64 {
    proxy.metric("pullthrough_client_handshake_failures_total{reason=\"proxy_header\"}").await
}

async fn start(clients: &str) -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").doors(DOORS).clients(clients).start().await;
    (registry, proxy)
}

#[tokio::test]
async fn the_told_address_is_judged_and_written_down_at_every_door() {
    let log = Log::begin();
    let (registry, proxy) = start("allow: [10.1.2.0/24]").await;
    let digest = registry.push_blob("a", layer(50_000, 1));
    let path = format!("/v2/a/blobs/{digest}");
    let client = proxy.client();
    let (good, bad) =
        ([v1("10.1.2.3"), v2(0x21, [10, 1, 2, 3], b"\xe0\0\x01x")], [v1("10.9.9.9"), v2(0x21, [10, 9, 9, 9], b"")]);
    for header in &good {
        // A CONNECT, TLS to the proxy itself, and a name.
        let mut stream = behind(header, proxy.address()).await;
        open(&mut stream).await;
        let got = client.session_over(stream, QUAY).await.unwrap().get(&path).await;
        assert!(got.bytes()[..] == layer(50_000, 1));
        let own = behind(header, proxy.address()).await;
        let mut own = client.session_over(own, "localhost:443").await.unwrap();
        assert_eq!(own.get("/").await.status, 200);
        let named = behind(header, proxy.door(Door::Transparent)).await;
        assert_eq!(client.session_over(named, QUAY).await.unwrap().get(&path).await.status, 200);
        let admin = behind(header, proxy.admin()).await;
        assert!(page(admin, "/metrics").await.starts_with("HTTP/1.1 200"));
    }
    for header in &bad {
        assert_eq!(connected(behind(header, proxy.address()).await).await, 403);
        let own = behind(header, proxy.address()).await;
        assert_eq!(client.session_over(own, "localhost:443").await.unwrap().get("/").await.status, 403);
        let named = behind(header, proxy.door(Door::Transparent)).await;
        let refused = client.session_over(named, QUAY).await.err().unwrap();
        assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    }
    assert_eq!(registry.count(&format!("GET {path}")), 1);
    eventually("all are recorded", || log.lines("INFO", &["kind=\"blob\"", "client=\"10.1.2.3\""]).len() == 4).await;
    assert_eq!(log.lines("INFO", &["client=\"127.0.0.5\""]), [""; 0]);
    assert_eq!(failures(&proxy).await, 0.0);
}

async fn page(mut stream: TcpStream, path: &str) -> String {
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.2\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    String::from_utf8_lossy(&rest(&mut stream).await).into_owned()
}

#[tokio::test]
async fn a_header_from_a_stranger_or_behind_a_header_opens_nothing() {
    let (registry, proxy) = start("allow: [10.1.2.0/24]").await;
    for header in [v1("10.1.2.3"), v2(0x21, [10, 1, 2, 3], b"")] {
        for to in [proxy.address(), proxy.door(Door::Transparent)] {
            let mut stranger = from("127.0.0.6", to).await;
            stranger.write_all(&header).await.unwrap();
            assert_ne!(connected(stranger).await, 200);
            let second = [v1("10.9.9.9"), header.clone()].concat();
            assert_ne!(connected(behind(&second, to).await).await, 200);
        }
    }
    assert_eq!(registry.connections(), 0);
    // Where the stranger is a client, what it says is no request.
    let (_registry, proxy) = start("allow: [127.0.0.6/32]").await;
    let mut stranger = from("127.0.0.6", proxy.address()).await;
    stranger.write_all(&v1("10.1.2.3")).await.unwrap();
    assert_eq!(connected(stranger).await, 400);
    assert_eq!(connected(from("127.0.0.6", proxy.address()).await).await, 200);
}

#[tokio::test]
async fn a_balancer_that_speaks_for_itself_is_judged_by_its_own_address() {
    for (clients, status) in [("allow: [127.0.0.5/32]", 200), ("allow: [10.0.0.0/8]", 403)] {
        let (_registry, proxy) = start(clients).await;
        let unspec = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0, 0, 0]].concat();
        for header in [v2(0x20, [10, 1, 2, 3], b""), unspec, b"PROXY UNKNOWN\r\n".to_vec()] {
            assert_eq!(connected(behind(&header, proxy.address()).await).await, status, "{}", header.escape_ascii());
        }
    }
}

#[tokio::test]
async fn a_balancers_connection_without_a_whole_header_in_time_is_closed() {
    let (registry, proxy) = start("allow: [127.0.0.0/8, 10.0.0.0/8]").await;
    let mut oversize = v2(0x21, [10, 1, 2, 3], b"");
    oversize[14..16].copy_from_slice(&[0xff, 0xff]);
    let mut closed = 0.0;
    for to in [proxy.address(), proxy.admin(), proxy.door(Door::Transparent)] {
        for said in
            [&b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\x16\x03\x01", b"PROXY nobody\r\n\r\n", &oversize]
        {
            let mut stream = behind(said, to).await;
            assert_eq!(rest(&mut stream).await, b"", "{}", said.escape_ascii());
            closed += 1.0;
        }
    }
    let mut truncated = behind(&v1("10.1.2.3")[..20], proxy.address()).await;
    truncated.shutdown().await.unwrap();
    assert_eq!(rest(&mut truncated).await, b"");
    closed += 1.0;
    drop(from(BALANCER, proxy.address()).await); // whether anybody listens
    let mut late = behind(&v1("10.1.2.3")[..20], proxy.address()).await;
    let begun = std::time::Instant::now();
    assert_eq!(rest(&mut late).await, b"");
    assert!(begun.elapsed().as_secs() < 60, "a deadline of its own");
    assert_eq!(failures(&proxy).await, closed + 1.0);
    assert_eq!(registry.connections(), 0);
}

#[tokio::test]
async fn limits_are_each_clients_and_not_the_balancers() {
    let (_registry, proxy) = start("allow: [10.0.0.0/8], connections_each: 1").await;
    let session = async |client: &str| {
        let stream = behind(&v1(client), proxy.door(Door::Transparent)).await;
        proxy.client().session_over(stream, QUAY).await.unwrap()
    };
    let (mut first, mut second) = (session("10.1.2.3").await, session("10.1.2.4").await);
    assert_eq!(
        (first.get("/v2/").await.status, second.get("/v2/").await.status),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert_eq!(session("10.1.2.3").await.get("/v2/").await.status, 429);
}

#[tokio::test]
async fn a_reload_changes_whose_header_counts() {
    let (registry, proxy) = start("allow: [10.1.2.0/24]").await;
    assert_eq!(connected(behind(&v1("10.1.2.3"), proxy.address()).await).await, 200);
    proxy.reload(Plan::new().registry(&registry, "").clients("allow: [10.1.2.0/24]")).await;
    assert_eq!(connected(behind(&v1("10.1.2.3"), proxy.address()).await).await, 400);
    let stranger = Client::through(proxy.address(), &proxy.ca_file()).from(BALANCER);
    assert_eq!(stranger.tunnel(QUAY).await.unwrap_err().status, 403);
}
