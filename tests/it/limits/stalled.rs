//! Clients that ask for much and take nothing: everybody else is served, and what they hold is given back.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pullthrough::wire::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{from, status};
use crate::pull::{QUAY, layer};
use crate::support::client::{Client, Session, whole};
use crate::support::{Act, Plan, Proxy, Registry, Served, program, until};

/// Stands for the minute. Long enough for a client on a loaded machine that takes something all the time.
const STALL: Duration = Duration::from_secs(3);

/// Connections, and the answers on them that nobody reads.
struct Stalls {
    taken: usize,
    _held: Vec<(Session, Vec<http::Response<Incoming>>)>,
}

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
        Self { taken, _held: held }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_take_nothing_hold_one_file_and_starve_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "");
    fs::write(folder.path().join("pullthrough.yaml"), plan.yaml(folder.path())).unwrap();
    let server = Served::start_with_files(folder.path(), "info", 1024);
    let (warm, other) = (registry.push_blob("a", layer(3_000_000, 1)), registry.push_blob("a", layer(100_000, 2)));
    let client = Client::through(server.proxy(), &folder.path().join("ca/ca.crt"));
    assert_eq!(client.get(QUAY, &format!("/v2/a/blobs/{warm}")).await.bytes().len(), 3_000_000);
    let (files, memory) = (server.files(), server.memory());
    let stalls = Stalls::begin(server.proxy(), folder.path(), &format!("/v2/a/blobs/{warm}"), 1250, 0).await;
    assert_eq!(stalls.taken, 1250, "all of them have begun");
    assert!(server.files() <= files + 20, "{} files, {files} before", server.files());
    let each = (server.memory() - memory) / stalls.taken;
    assert!(each < 48, "{each} KiB for each: a chunk of 64 KiB would be more");
    for path in ["/healthz", "/readyz", "/ca.crt"] {
        assert_eq!(status(from("127.0.0.1", server.proxy()).await, &format!("GET {path}"), "").await, 200, "{path}");
    }
    assert_eq!(status(from("127.0.0.1", server.admin()).await, "GET /metrics", "").await, 200);
    let stats = program(folder.path()).args(["cache", "stats", "--config", "pullthrough.yaml"]).output().unwrap();
    assert!(stats.status.success(), "over the control socket: {stats:?}");
    let cold = client.get(QUAY, &format!("/v2/a/blobs/{other}")).await;
    assert_eq!(cold.bytes().len(), 100_000);
    assert_eq!(registry.count("GET */blobs/*"), 2, "one for each blob");
}

/// A proxy that has a blob of so many bytes, and the path of that.
async fn warm(length: usize) -> (Proxy, String) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").stall(STALL).start().await;
    let path = format!("/v2/a/blobs/{}", registry.push_blob("a", layer(length, 1)));
    proxy.client().get(QUAY, &path).await.bytes();
    (proxy, path)
}

async fn in_use(proxy: &Proxy, what: &str) -> f64 {
    proxy.metric(&format!("pullthrough_in_use{{what=\"{what}\"}}")).await
}

async fn given_up(proxy: &Proxy) -> f64 {
    proxy.metric("pullthrough_refused_total{reason=\"stalled\"}").await
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_reset_and_a_slow_one_beside_it_is_not() {
    let (proxy, path) = warm(30_000_000).await;
    let mut session = proxy.client().windows(100_000).session(QUAY).await;
    let still = session.send("GET", &path, &[], Body::empty()).await.unwrap();
    let mut slow = session.send("GET", &path, &[], Body::empty()).await.unwrap();
    let (mut taken, mut ticks) = (0, tokio::time::interval(STALL / 30));
    until("the one that takes nothing is given up", async || {
        ticks.tick().await; // its pace: a frame, and a pause
        taken += slow.frame().await.unwrap().unwrap().into_data().unwrap().len();
        given_up(&proxy).await == 1.0
    })
    .await;
    let rest = whole(slow).await;
    assert_eq!(rest.bytes().len() + taken, 30_000_000);
    let cut = whole(still).await.body.unwrap_err();
    assert!(cut.len() <= 100_000, "no more than its window: {}", cut.len());
    assert_eq!(session.get(&path).await.bytes().len(), 30_000_000, "the connection is as good as before");
    until("nothing is held", async || in_use(&proxy, "bodies").await == 0.0).await;
    assert_eq!(in_use(&proxy, "files").await, 0.0);
}

#[tokio::test]
async fn unread_answers_that_are_passed_on_leave_the_registrys_connection_to_the_others() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    let manifest = registry.push_image("a", "1", &[layer(1000, 1)]).digest;
    proxy.client().get(QUAY, "/v2/").await;
    let body = "x".repeat(5 << 20);
    registry.script("GET /big*", Act::Answer { status: 200, headers: Vec::new(), body });
    let mut session = proxy.client().windows(1000).session(QUAY).await;
    let mut unread = Vec::new();
    for number in 0..12 {
        let answer = session.send("GET", &format!("/big{number}"), &[], Body::empty()).await.unwrap();
        assert_eq!(answer.status(), 200);
        unread.push(answer);
    }
    let others = async {
        let list = proxy.client().get(QUAY, "/v2/a/tags/list").await;
        assert_eq!((list.status.as_u16(), list.body.is_ok()), (200, true));
        let found = proxy.client().get(QUAY, &format!("/v2/a/manifests/{manifest}")).await;
        assert_eq!((found.status.as_u16(), found.body.is_ok()), (200, true));
        assert_eq!(proxy.client().get(QUAY, "/big99").await.bytes().len(), 5 << 20);
    };
    tokio::time::timeout(Duration::from_secs(30), others).await.expect("they do not wait for who does not read");
    assert_eq!(unread.len(), 12);
}

#[tokio::test]
async fn an_answer_whose_end_is_on_its_way_already_takes_its_connection_with_it_once_nobody_moves_there() {
    let (proxy, path) = warm(1000).await;
    let mut session = proxy.client().windows(1).session(QUAY).await;
    let still = session.send("GET", &path, &[], Body::empty()).await.unwrap();
    assert_eq!(still.status(), 200);
    until("its connection is closed", async || proxy.metric("pullthrough_connections{door=\"proxy\"}").await == 0.0)
        .await;
    assert_eq!((in_use(&proxy, "bodies").await, given_up(&proxy).await), (0.0, 1.0));
    assert!(whole(still).await.body.is_err());
    assert_eq!(proxy.client().get(QUAY, &path).await.bytes().len(), 1000);
}

/// Asks for it in HTTP/1.1 and reads no answer.
async fn ask(proxy: &Proxy, path: &str) -> TlsStream<TcpStream> {
    let mut stream = proxy.client().tls(QUAY).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: quay.io\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_connection_whose_peer_takes_nothing_is_closed_and_a_slow_one_is_not() {
    let (proxy, path) = warm(30_000_000).await;
    let (_still, mut slow) = (ask(&proxy, &path).await, ask(&proxy, &path).await);
    let open = async || proxy.metric("pullthrough_connections{door=\"proxy\"}").await;
    until("both are open", async || open().await == 2.0).await;
    let (mut taken, mut ticks) = (0, tokio::time::interval(STALL / 30));
    let mut piece = vec![0; 256 << 10];
    until("the one that takes nothing is closed", async || {
        ticks.tick().await;
        taken += slow.read(&mut piece).await.unwrap();
        open().await == 1.0
    })
    .await;
    while taken < 30_000_000 {
        match slow.read(&mut piece).await.unwrap() {
            0 => panic!("the slow one was cut at {taken}"),
            count => taken += count,
        }
    }
}

#[tokio::test]
async fn who_waits_for_the_registry_is_not_given_up() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").stall(Duration::from_millis(200)).start().await;
    let bytes = layer(300_000, 1);
    let path = format!("/v2/a/blobs/{}", registry.push_blob("a", bytes.clone()));
    let gate = crate::support::Gate::new();
    registry.script("GET */blobs/*", Act::Hold(200_000, gate.clone()));
    let mut session = proxy.client().windows(1 << 20).session(QUAY).await;
    let waiting = session.send("GET", &path, &[], Body::empty()).await.unwrap();
    // A neighbour that stalls is given up meanwhile, so the time has passed.
    let small = format!("/v2/a/blobs/{}", registry.push_blob("b", layer(400_000, 2)));
    registry.script("GET */b/blobs/*", Act::Header("x".into(), "y".into()));
    let mut other = proxy.client().windows(1).session(QUAY).await;
    let neighbour = other.send("GET", &small.replace("/a/", "/b/"), &[], Body::empty()).await;
    until("the neighbour is given up", async || given_up(&proxy).await == 1.0).await;
    gate.open();
    drop(neighbour);
    assert_eq!(whole(waiting).await.bytes(), &bytes);
}

/// Prints what stalled streams take: `cargo test --test it -- --ignored --nocapture what_stalled_streams_take`.
/// `STREAMS`, `WINDOW`, `FILES`, and `PULLTHROUGH_PROGRAM` for another build beside it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn what_stalled_streams_take() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (streams, window) = (number("STREAMS", 20_000), number("WINDOW", 0));
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    let plan = Plan::new().registry(&registry, "").clients(&std::env::var("CLIENTS").unwrap_or_default());
    let yaml = plan.yaml(folder.path());
    fs::write(folder.path().join("pullthrough.yaml"), yaml).unwrap();
    let server = Served::start_with_files(folder.path(), "info", number("FILES", 20_000));
    let path = format!("/v2/a/blobs/{}", registry.push_blob("a", layer(3_000_000, 1)));
    Client::through(server.proxy(), &folder.path().join("ca/ca.crt")).get(QUAY, &path).await;
    println!("at rest: {} files, {} MiB", server.files(), server.memory() >> 10);
    let stalls = Stalls::begin(server.proxy(), folder.path(), &path, streams, u32::try_from(window).unwrap()).await;
    println!("{} of {streams} stalled: {} files, {} MiB", stalls.taken, server.files(), server.memory() >> 10);
    drop(stalls);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    log.lines().filter(|line| !line.contains("access")).for_each(|line| println!("{line}"));
}
