//! One client leaves connections, memory and the line to the others.

use tokio::net::TcpStream;

use super::{from, status};
use crate::pull::{QUAY, layer};
use crate::support::{Plan, Registry, until};

/// A request at the door itself, with so many more fields of such a length.
async fn ask(stream: TcpStream, fields: usize, length: usize) -> u16 {
    let more: String = (0..fields).map(|number| format!("x-{number}: {}\r\n", "y".repeat(length))).collect();
    status(stream, "GET /healthz", &more).await
}

#[tokio::test]
async fn a_head_is_of_bounded_size_and_of_a_bounded_number_of_fields() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    let connect = || async { TcpStream::connect(proxy.address()).await.unwrap() };
    for (fields, length, expected) in
        [(0, 0, 200), (100, 10, 200), (1, 32 << 10, 200), (200, 10, 431), (1, 80 << 10, 431)]
    {
        assert_eq!(ask(connect().await, fields, length).await, expected, "{fields} of {length}");
    }
}

#[tokio::test]
async fn one_address_leaves_connections_to_the_others() {
    let registry = Registry::start("quay.io");
    let limits = "connections: 5, connections_each: 3";
    let proxy = Plan::new().registry(&registry, "").clients(limits).start().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(from("127.0.0.2", proxy.address()).await);
    }
    let connect = async |address| status(from(address, proxy.address()).await, "CONNECT quay.io:443", "").await;
    assert_eq!(connect("127.0.0.2").await, 429, "the fourth of one address");
    assert_eq!(connect("127.0.0.3").await, 200, "another address");
    let open = async || proxy.metric("pullthrough_connections{door=\"proxy\"}").await;
    until("its place is free", async || open().await == 3.0).await;
    held.push(from("127.0.0.4", proxy.address()).await);
    held.push(from("127.0.0.5", proxy.address()).await);
    assert_eq!(connect("127.0.0.6").await, 503, "the sixth of all");
    for path in ["/healthz", "/readyz", "/ca.crt"] {
        let told = status(from("127.0.0.6", proxy.address()).await, &format!("GET {path}"), "").await;
        assert_eq!(told, 200, "{path} is there for those who are too many");
    }
    held.clear();
    until("they are gone", async || open().await == 0.0).await;
    assert_eq!(connect("127.0.0.2").await, 200, "places come back");
    assert!(proxy.metric("pullthrough_connects_total{verdict=\"crowded\"}").await >= 2.0);
}

#[tokio::test]
async fn a_pull_under_a_cap_is_whole() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").upstream("bandwidth: 1MiB").start().await;
    let bytes = layer(400_000, 1);
    let digest = registry.push_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let answer = proxy.client().get(QUAY, &path).await;
    assert_eq!(answer.header("content-length"), "400000");
    assert_eq!(answer.bytes(), &bytes);
    assert_eq!(registry.count("GET */blobs/*"), 1);
}
