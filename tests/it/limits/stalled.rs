//! Clients that ask for much and take nothing: everybody else is served all the same.

use std::net::SocketAddr;
use std::path::Path;

use futures_util::future::join_all;
use hyper::body::Incoming;
use pullthrough::wire::Body;

use super::{from, status};
use crate::pull::{QUAY, layer};
use crate::support::client::{Client, Session};
use crate::support::{Plan, Registry, Served};

/// Connections, and the answers on them that nobody reads.
struct Stalls(#[expect(dead_code, reason = "kept open")] Vec<(Session, Vec<http::Response<Incoming>>)>, usize);

impl Stalls {
    /// So many streams with a window of `window` bytes, 250 on each connection.
    async fn begin(proxy: SocketAddr, folder: &Path, path: &str, streams: usize, window: u32) -> Self {
        let client = Client::through(proxy, &folder.join("ca/ca.crt")).windows(window);
        let connections = (0..streams.div_ceil(250)).map(async |number| {
            let mut session = client.session(QUAY).await;
            let mut answers = Vec::new();
            for _ in 0..250.min(streams - number * 250) {
                answers.push(session.send("GET", path, &[], Body::empty()).await.unwrap());
            }
            (session, answers)
        });
        let held = join_all(connections).await;
        let taken = held.iter().flat_map(|(_, answers)| answers).filter(|answer| answer.status() == 200).count();
        Self(held, taken)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_take_nothing_hold_one_file_and_starve_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "");
    std::fs::write(folder.path().join("pullthrough.yaml"), plan.yaml(folder.path())).unwrap();
    let server = Served::start_with_files(folder.path(), "info", 1024);
    let (warm, other) = (registry.push_blob("a", layer(3_000_000, 1)), registry.push_blob("a", layer(100_000, 2)));
    let client = Client::through(server.proxy(), &folder.path().join("ca/ca.crt"));
    assert_eq!(client.get(QUAY, &format!("/v2/a/blobs/{warm}")).await.bytes().len(), 3_000_000);
    let before = server.files();
    let stalls = Stalls::begin(server.proxy(), folder.path(), &format!("/v2/a/blobs/{warm}"), 1250, 0).await;
    assert_eq!(stalls.1, 1250, "all of them have begun");
    assert!(server.files() <= before + 20, "{} files, {before} before", server.files());
    for path in ["/healthz", "/readyz", "/ca.crt"] {
        assert_eq!(status(from("127.0.0.1", server.proxy()).await, &format!("GET {path}"), "").await, 200, "{path}");
    }
    assert_eq!(status(from("127.0.0.1", server.admin()).await, "GET /metrics", "").await, 421, "it answers"); 
    let cold = client.get(QUAY, &format!("/v2/a/blobs/{other}")).await;
    assert_eq!(cold.bytes().len(), 100_000);
}

/// Prints what stalled streams take: `cargo test --test it -- --ignored --nocapture what_stalled_streams_take`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn what_stalled_streams_take() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (streams, window) = (number("STREAMS", 20_000), number("WINDOW", 0));
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "");
    let yaml = plan.yaml(folder.path()) + &std::env::var("YAML").unwrap_or_default();
    std::fs::write(folder.path().join("pullthrough.yaml"), yaml).unwrap();
    let server = Served::start_with_files(folder.path(), "info", number("FILES", 20_000));
    let warm = registry.push_blob("a", layer(3_000_000, 1));
    let client = Client::through(server.proxy(), &folder.path().join("ca/ca.crt"));
    client.get(QUAY, &format!("/v2/a/blobs/{warm}")).await;
    println!("at rest: {} files, {} MiB", server.files(), server.memory() >> 10);
    let path = format!("/v2/a/blobs/{warm}");
    let stalls = Stalls::begin(server.proxy(), folder.path(), &path, streams, u32::try_from(window).unwrap()).await;
    println!("{} of {streams} stalled: {} files, {} MiB", stalls.1, server.files(), server.memory() >> 10);
    drop(stalls);
    println!("{}", std::fs::read_to_string(folder.path().join("log")).unwrap().lines().filter(|l| !l.contains("access")).collect::<Vec<_>>().join("\n"));
}
