//! Operators are told the truth: what failed, where, how often, and what is no fault.

use std::process::Command;

use pullthrough::wire::Body;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::{Act, Log, Nowhere, Plan, Proxy, Registry, eventually, until};

const QUAY: &str = "quay.io:443";

async fn quay() -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    (registry, proxy)
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_ca_is_named_once() {
    let log = Log::begin();
    let (registry, proxy) = quay().await;
    let stranger = Client::through(proxy.address(), &registry.ca_file());
    for _ in 0..3 {
        assert!(stranger.tls(QUAY).await.is_err());
    }
    let counted = "pullthrough_client_handshake_failures_total{reason=\"untrusted\"}";
    until("all were counted", async || proxy.metric(counted).await == 3.0).await;
    let told = log.warnings(&["does not trust the proxy's CA", "127.0.0.1", "quay.io", "handshakes=1"]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(log.warnings(&["trust the proxy's CA"]).len(), 1);
}

/// The outcomes of the log's CONNECT lines, each with the number of its lines.
fn connects(log: &Log) -> Vec<(String, usize)> {
    let lines = log.lines("INFO", &["access", "method=\"CONNECT\""]);
    let mut outcomes: Vec<String> = lines
        .iter()
        .map(|line| line.split_once("outcome=\"").unwrap().1.split('"').next().unwrap().to_owned())
        .collect();
    outcomes.sort();
    let mut counted: Vec<(String, usize)> = Vec::new();
    for outcome in outcomes {
        match counted.last_mut().filter(|(last, _)| *last == outcome) {
            Some((_, count)) => *count += 1,
            None => counted.push((outcome, 1)),
        }
    }
    counted
}

#[tokio::test]
async fn the_log_and_the_metrics_agree_on_what_became_of_each_connect() {
    let log = Log::begin();
    let (registry, other, nowhere) = (Registry::start("quay.io"), Registry::start("example.com"), Nowhere::new());
    let nobody = nowhere.address();
    let tunnel = format!("allow: ['127.0.0.1:{}'], deny: [denied.example]", nobody.port());
    let plan = Plan::new().registry(&registry, "").host("example.com", &other).tunnel(&tunnel);
    let proxy = plan.clients("allow: [127.0.0.1/32]").start().await;
    let client = proxy.client();
    drop(client.tunnel(QUAY).await.unwrap());
    drop(client.tunnel("example.com:443").await.unwrap());
    for (target, status) in
        [("denied.example:443", 403), ("127.0.0.1:443", 403), (&*nobody.to_string(), 502), ("no-port.example", 400)]
    {
        assert_eq!(client.tunnel(target).await.expect_err(target).status, status, "{target}");
    }
    // No CONNECT, and so not counted as one.
    assert_eq!(client.plain_session("proxy.example").await.get("/nothing").await.status, 404);
    let metric =
        async |word: &str| proxy.metric(&format!("pullthrough_connects_total{{verdict=\"{word}\"}}")).await as usize;
    let expected = [("failed", 1), ("intercept", 1), ("malformed", 1), ("refuse", 2), ("tunnel", 1)];
    let expected = expected.map(|(word, count)| (word.to_owned(), count));
    eventually("each has its line", || connects(&log) == expected).await;
    for (word, count) in &expected {
        assert_eq!(metric(word).await, *count, "{word}");
    }
    for word in ["stranger", "login", "crowded", "left"] {
        assert_eq!(metric(word).await, 0, "{word}");
    }
}

#[tokio::test]
async fn a_tunnel_that_is_closed_by_policy_did_not_break_off() {
    let log = Log::begin();
    let (registry, other) = (Registry::start("quay.io"), Registry::start("example.com"));
    let proxy = Plan::new().registry(&registry, "").host("example.com", &other).start().await;
    let error = proxy.client().tls_as("example.com:443", "quay.io").await.expect_err("a registry's name");
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    eventually("it is told", || !log.lines("INFO", &["access", "host=\"example.com:443\""]).is_empty()).await;
    let line = log.lines("INFO", &["access", "host=\"example.com:443\""]).remove(0);
    assert!(line.contains("refused: TLS asks for quay.io") && !line.contains("broken off"), "{line}");
}

#[tokio::test]
async fn a_ping_whose_answer_is_not_read_is_no_fault() {
    let log = Log::begin();
    let (registry, proxy) = quay().await;
    registry.script("GET /v2/", Act::Status(401));
    let mut session = proxy.client().session(QUAY).await;
    drop(session.send("GET", "/v2/", &[], Body::empty()).await);
    drop(session);
    eventually("it is told", || !log.lines("INFO", &["access", "kind=\"ping\""]).is_empty()).await;
    let line = log.lines("INFO", &["access", "kind=\"ping\""]).remove(0);
    assert!(!line.contains("disconnected") && line.contains("status=401"), "{line}");
}

#[tokio::test]
async fn a_connection_that_is_closed_before_tls_is_no_failed_handshake() {
    let (_registry, proxy) = quay().await;
    drop(proxy.client().tunnel(QUAY).await.unwrap());
    let mut bare = TcpStream::connect(proxy.address()).await.unwrap();
    bare.shutdown().await.unwrap();
    drop(bare);
    let intercepted = "pullthrough_connects_total{verdict=\"intercept\"}";
    until("it was seen", async || proxy.metric(intercepted).await == 1.0).await;
    until("both are closed", async || proxy.metric("pullthrough_connections{door=\"proxy\"}").await == 0.0).await;
    assert_eq!(proxy.metric("pullthrough_client_handshake_failures_total").await, 0.0);
}

#[tokio::test]
async fn a_digest_mismatch_names_the_registry_and_the_repository() {
    let log = Log::begin();
    let (registry, proxy) = quay().await;
    let digest = registry.push_blob("org/app", vec![1; 1000]);
    registry.script("GET */blobs/*", Act::WrongByte(50));
    let answer = proxy.client().session(QUAY).await.get_broken(&format!("/v2/org/app/blobs/{digest}")).await;
    assert!(answer.is_none_or(|answer| answer.status == 502 || answer.body.is_err()));
    let words = ["registry=\"quay.io\"", "repository=\"org/app\"", &digest.to_string()];
    eventually("it is told", || log.lines("ERROR", &words).len() == 1).await;
}

#[tokio::test]
async fn damage_is_an_error_that_names_the_registry_and_the_repository() {
    let log = Log::begin();
    let (registry, mut proxy) = quay().await;
    let digest = registry.push_blob("org/app", vec![1; 100_000]);
    let path = format!("/v2/org/app/blobs/{digest}");
    proxy.client().session(QUAY).await.get(&path).await.bytes();
    proxy.stored(&digest).await;
    proxy.restart().await; // the catalog has all of it
    let mut bytes = std::fs::read(proxy.blob_file(&digest)).unwrap();
    bytes[50_000] ^= 1;
    std::fs::write(proxy.blob_file(&digest), bytes).unwrap();
    assert_eq!(proxy.client().session(QUAY).await.get(&path).await.bytes().len(), 100_000);
    eventually("it is told", || !log.lines("ERROR", &["a cached blob is damaged"]).is_empty()).await;
    for line in log.lines("ERROR", &["damaged"]) {
        assert!(line.contains("quay.io") && line.contains("org/app") && line.contains(&digest.to_string()), "{line}");
    }
    assert_eq!(log.warnings(&["damaged"]), [""; 0]);
}

#[tokio::test]
async fn a_blob_that_is_larger_than_the_cache_is_no_error() {
    let log = Log::begin();
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").cache("max_size: 1MiB").start().await;
    let bytes = vec![7; 3 << 20];
    let digest = registry.push_blob("org/app", bytes.clone());
    let answer = proxy.client().session(QUAY).await.get(&format!("/v2/org/app/blobs/{digest}")).await;
    assert_eq!(answer.bytes().len(), bytes.len());
    let words = ["larger than the cache", "registry=\"quay.io\"", "repository=\"org/app\"", "cache.max_size"];
    eventually("it is told", || !log.lines("INFO", &words).is_empty()).await;
    assert_eq!(log.lines("ERROR", &[]), [""; 0]);
    assert_eq!(log.warnings(&[]), [""; 0]);
}

#[tokio::test]
async fn a_transfer_that_stops_names_the_registry_and_the_repository() {
    let log = Log::begin();
    let (registry, proxy) = quay().await;
    let bytes = vec![7; 1 << 20];
    let digest = registry.push_blob("org/app", bytes.clone());
    registry.script_times(1, "GET */blobs/*", Act::Cut(300_000));
    let answer = proxy.client().session(QUAY).await.get(&format!("/v2/org/app/blobs/{digest}")).await;
    assert_eq!(answer.bytes().len(), bytes.len());
    let words = ["the transfer of a blob stopped", "registry=\"quay.io\"", "repository=\"org/app\""];
    eventually("it is told", || !log.lines("INFO", &words).is_empty()).await;
}

#[tokio::test]
async fn a_redirect_that_policy_refuses_did_not_break_off() {
    let log = Log::begin();
    let (registry, proxy) = quay().await;
    let digest = registry.push_blob("org/app", vec![7; 1000]);
    registry.script("GET */blobs/*", Act::Redirect { status: 307, location: "https://10.255.255.1/x".into() });
    let answer = proxy.client().session(QUAY).await.get(&format!("/v2/org/app/blobs/{digest}")).await;
    assert_eq!(answer.status, 502);
    let words = ["registry=\"quay.io\"", "repository=\"org/app\"", "10.255.255.1", "may not be reached"];
    eventually("it is told", || !log.warnings(&words).is_empty()).await;
    for level in ["INFO", "WARN", "ERROR"] {
        for words in ["broke off", "broken off", "stopped"] {
            assert_eq!(log.lines(level, &[words]), [""; 0]);
        }
    }
}

#[tokio::test]
async fn the_public_pages_answer_everybody_on_both_ports() {
    let log = Log::begin();
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").clients("allow: [10.0.0.0/8]").start().await;
    for path in ["/healthz", "/readyz", "/ca.crt"] {
        for (door, address) in [("proxy", proxy.address()), ("admin", proxy.admin())] {
            for host in ["proxy.example.com", "127.0.0.1"] {
                let client = Client::through(address, &proxy.ca_file());
                let answer = client.plain_session(host).await.get(path).await;
                assert_eq!(answer.status, 200, "{door} {host} {path}");
            }
        }
    }
    let client = Client::through(proxy.admin(), &proxy.ca_file());
    assert_eq!(client.plain_session("proxy.example.com").await.get("/metrics").await.status, 421);
    let client = Client::through(proxy.address(), &proxy.ca_file());
    assert_eq!(client.plain_session("proxy.example.com").await.get("/").await.status, 403);
    eventually("it is told", || log.lines("INFO", &["access", "path=\"/ca.crt\"", "kind=\"own\""]).len() == 2).await;
}

#[tokio::test]
async fn our_own_pages_are_told_with_their_paths() {
    let log = Log::begin();
    let (_registry, proxy) = quay().await;
    let mut session = proxy.client().plain_session(&proxy.address().to_string()).await;
    for (path, status) in [("/", 200), ("/ca.crt", 200), ("/setup/docker?secret=1", 200), ("/nothing", 404)] {
        assert_eq!(session.get(path).await.status, status, "{path}");
        let shown = format!("path=\"{}\"", path.split('?').next().unwrap());
        eventually("it is told", || log.lines("INFO", &["access", &shown]).len() == 1).await;
    }
    assert_eq!(log.lines("INFO", &["secret"]), [""; 0]);
}

/// What `pullthrough why` says of an image, over the cache of this proxy.
async fn why(proxy: &Proxy, image: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
    command.args(["why", image, "--cache-dir"]).arg(proxy.folder().join("cache")).env_clear().current_dir("/");
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

#[tokio::test]
async fn why_names_an_outage_also_of_an_image_that_is_not_cached() {
    let (mut registry, proxy) = quay().await;
    registry.push_image("org/app", "1", &[vec![1; 100]]);
    let mut session = proxy.client().session(QUAY).await;
    assert_eq!(session.get("/v2/org/app/manifests/1").await.status, 200);
    assert!(!why(&proxy, "quay.io/org/app:1").await.contains("outage"));
    registry.stop();
    until("it is away", async || {
        proxy.client().session(QUAY).await.get("/v2/org/none/manifests/1").await;
        why(&proxy, "quay.io/org/app:1").await.contains("outage")
    })
    .await;
    for image in ["quay.io/org/app:1", "quay.io/org/none:1"] {
        let said = why(&proxy, image).await;
        assert!(said.contains("outage     quay.io is unreachable"), "{said}");
    }
    assert!(!why(&proxy, "ghcr.io/org/app:1").await.contains("outage"), "another registry");
}
