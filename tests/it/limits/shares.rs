//! How much one address may have at a time, and all of them: what is too much is refused with a reason, and comes back.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use futures_util::future::join_all;
use pullthrough::wire::Body;
use rustix::process::{Resource, Rlimit, prlimit};

use super::{from, status};
use crate::pull::{QUAY, layer};
use crate::service::get;
use crate::support::client::{Client, whole};
use crate::support::{Act, Gate, Plan, Registry, Served, program, until};

const HERE: &str = "127.0.0.2";
const THERE: &str = "127.0.0.3";

#[tokio::test]
async fn one_address_leaves_requests_to_the_others_and_is_told_when_to_come_back() {
    let registry = Registry::start("quay.io");
    let limits = "streams: 5, streams_each: 3";
    let proxy = Plan::new().registry(&registry, "").clients(limits).start().await;
    let path = format!("/v2/a/blobs/{}", registry.push_blob("a", layer(500_000, 1)));
    proxy.client().get(QUAY, &path).await.bytes();
    let mut here = proxy.client().from(HERE).windows(1000).session(QUAY).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(here.send("GET", &path, &[], Body::empty()).await.unwrap());
    }
    let refused = here.ask("GET", &path, &[]).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "5"));
    let body = std::str::from_utf8(refused.bytes()).unwrap();
    assert!(body.contains("TOOMANYREQUESTS") && body.contains("clients.streams_each"), "{body}");
    assert!(refused.header("proxy-status").starts_with("pullthrough; error="));
    let mut there = proxy.client().from(THERE).windows(1000).session(QUAY).await;
    for _ in 0..2 {
        held.push(there.send("GET", &path, &[], Body::empty()).await.unwrap());
    }
    assert!(held.iter().all(|answer| answer.status() == 200));
    let refused = there.ask("GET", "/v2/a/manifests/1", &[]).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "5"), "the sixth of all");
    assert!(String::from_utf8_lossy(refused.bytes()).contains("UNAVAILABLE"));
    held.clear();
    until("those have ended", async || proxy.metric("pullthrough_in_use{what=\"bodies\"}").await == 0.0).await;
    assert_eq!(proxy.client().from(HERE).get(QUAY, &path).await.bytes().len(), 500_000);
    for (reason, count) in [("streams_each", 1.0), ("streams", 1.0), ("tunnels", 0.0)] {
        let name = format!("pullthrough_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(proxy.metric(&name).await, count, "{reason}");
    }
    assert_eq!(proxy.metric("pullthrough_limit{what=\"bodies\"}").await, 5.0);
}

#[tokio::test]
async fn what_waits_for_a_registry_is_under_way_as_well() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").clients("streams_each: 2").start().await;
    let gate = Gate::new();
    registry.script("*/manifests/*", Act::Wait(gate.clone()));
    let path = |tag: usize| format!("/v2/a/manifests/{tag}");
    let asking = async |tag: usize| proxy.client().from(HERE).session(QUAY).await.ask("GET", &path(tag), &[]).await;
    let waiting = async { tokio::join!(asking(1), asking(2)) };
    let refused = async {
        until("two wait", async || proxy.metric("pullthrough_in_use{what=\"bodies\"}").await == 2.0).await;
        let refused = asking(3).await.status.as_u16();
        gate.open();
        refused
    };
    let ((first, second), refused) = tokio::join!(waiting, refused);
    assert_eq!((first.status.as_u16(), second.status.as_u16(), refused), (404, 404, 429));
}

#[tokio::test]
async fn a_connection_counts_until_it_is_closed_also_behind_a_connect() {
    let registry = Registry::start("quay.io");
    let limits = "connections: 5, connections_each: 2";
    let proxy = Plan::new().registry(&registry, "").clients(limits).start().await;
    let open = async || proxy.metric("pullthrough_in_use{what=\"connections\"}").await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut session = proxy.client().from(HERE).session(QUAY).await;
        session.get("/v2/").await;
        sessions.push(session);
    }
    assert_eq!(open().await, 2.0);
    let refusal = proxy.client().from(HERE).tunnel(QUAY).await.unwrap_err();
    assert!(refusal.status == 429 && refusal.text.contains("clients.connections_each"), "{}", refusal.text);
    assert!(refusal.text.to_ascii_lowercase().contains("retry-after: 5"), "{}", refusal.text);
    assert_eq!(status(from(HERE, proxy.address()).await, "GET /healthz", "").await, 200);
    sessions.clear();
    until("they are gone", async || open().await == 0.0).await;
    assert!(proxy.client().from(HERE).tunnel(QUAY).await.is_ok());
}

#[tokio::test]
async fn readers_of_a_download_under_way_share_its_file() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    let bytes = layer(2_000_000, 1);
    let path = format!("/v2/a/blobs/{}", registry.push_blob("a", bytes.clone()));
    let gate = Gate::new();
    registry.script("GET */blobs/*", Act::Hold(1_000_000, gate.clone()));
    let mut session = proxy.client().h2().session(QUAY).await;
    let mut readers = Vec::new();
    for _ in 0..100 {
        readers.push(session.send("GET", &path, &[], Body::empty()).await.unwrap());
    }
    assert_eq!(proxy.metric("pullthrough_in_use{what=\"files\"}").await, 1.0);
    gate.open();
    let read = join_all(readers.into_iter().map(whole)).await;
    assert!(read.iter().all(|answer| answer.bytes() == &bytes));
    assert_eq!(registry.count("GET */blobs/*"), 1);
}

/// The real program where so many files may be open, before these registries.
pub(super) fn serve(folder: &Path, files: usize, plan: Plan) -> Served {
    fs::write(folder.join("pullthrough.yaml"), plan.yaml(folder)).unwrap();
    Served::start_with_files(folder, "info", files)
}

pub(super) fn client(server: &Served, folder: &Path) -> Client {
    Client::through(server.proxy(), &folder.join("ca/ca.crt"))
}

#[tokio::test]
async fn one_address_leaves_tunnels_and_blobs_to_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    let host = TcpListener::bind("127.0.0.1:0").unwrap(); // it never accepts, and the system answers for it
    let port = host.local_addr().unwrap().port();
    let tunnel = format!("allow: [127.0.0.1], ports: [{port}]");
    let server = serve(folder.path(), 256, Plan::new().registry(&registry, "").tunnel(&tunnel));
    let at = |address| client(&server, folder.path()).from(address);
    let to = format!("127.0.0.1:{port}");
    let mut tunnels = Vec::new();
    let refusal = loop {
        match at(HERE).tunnel(&to).await {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(refusal) => break refusal,
        }
    };
    assert!(refusal.status == 429 && refusal.text.contains("for tunnels"), "{}", refusal.text);
    assert!((5..30).contains(&tunnels.len()), "{}", tunnels.len());
    tunnels.push(at(THERE).tunnel(&to).await.unwrap());
    drop(tunnels);
    let paths: Vec<String> =
        (0..30).map(|seed| format!("/v2/a/blobs/{}", registry.push_blob("a", layer(300_000, seed)))).collect();
    let mut session = at(HERE).windows(1000).session(QUAY).await;
    let mut held = Vec::new();
    for path in &paths {
        let answer = session.send("GET", path, &[], Body::empty()).await.unwrap();
        held.push(answer);
        if held.last().unwrap().status() != 200 {
            break;
        }
    }
    assert_eq!(held.last().unwrap().status(), 429, "of {}", held.len());
    assert_eq!(session.send("GET", &paths[0], &[], Body::empty()).await.unwrap().status(), 200, "it is open");
    assert_eq!(at(THERE).get(QUAY, &paths[29]).await.bytes().len(), 300_000);
}

/// From now on the program may have so many files open; more that it has it keeps.
fn limit_files(server: &Served, files: u64) {
    let limit = Rlimit { current: Some(files), maximum: Some(4096) };
    prlimit(Some(server.id()), Resource::Nofile, limit).unwrap();
}

#[tokio::test]
async fn our_own_want_of_files_is_told_as_such_and_opens_no_outage() {
    let folder = tempfile::tempdir().unwrap();
    let (quay, ghcr) = (Registry::start("quay.io"), Registry::start("ghcr.io"));
    let server = serve(folder.path(), 4096, Plan::new().registry(&quay, "").registry(&ghcr, ""));
    let bytes = layer(100_000, 1);
    let path = format!("/v2/a/blobs/{}", ghcr.push_blob("a", bytes.clone()));
    let mut session = client(&server, folder.path()).session("ghcr.io:443").await; // nobody is dialled yet
    let warm = format!("/v2/a/blobs/{}", quay.push_blob("a", bytes.clone()));
    client(&server, folder.path()).get(QUAY, &warm).await.bytes();
    limit_files(&server, 3);
    for path in [path.as_str(), "/v2/a/manifests/1", "/v2/", "/v2/a/tags/list"] {
        let answer = session.get(path).await;
        let text = String::from_utf8_lossy(answer.bytes()).into_owned();
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "5"), "{path}: {text}");
        assert!(text.contains("file"), "{path}: {text}");
    }
    limit_files(&server, 4096);
    assert_eq!(session.get(&path).await.bytes(), &bytes, "at once");
    until("the door is open", async || get(server.proxy(), "/healthz").is_ok_and(|told| told.contains("alive"))).await;
    let metrics = get(server.admin(), "/metrics").unwrap();
    let told =
        |start: &str| metrics.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect::<Vec<_>>();
    assert!(told("pullthrough_refused_total{reason=\"descriptors\"}").iter().all(|line| !line.ends_with(" 0")));
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(!log.contains("is unreachable"), "{log}");
    assert!(log.contains("no free file descriptor"), "{log}");
    assert!(log.matches("cannot accept").count() <= 2, "once a minute for each door: {log}");
}

#[tokio::test]
async fn metrics_and_the_control_socket_answer_where_no_file_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start("quay.io");
    let server = serve(folder.path(), 4096, Plan::new().registry(&registry, ""));
    limit_files(&server, server.highest_file() + 1);
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    let mut held = Vec::new();
    until("the door has no file for another one", async || {
        held.push(from(HERE, server.proxy()).await);
        log().contains("cannot accept connections")
    })
    .await;
    let metrics = get(server.admin(), "/metrics").unwrap();
    assert!(metrics.contains("pullthrough_in_use{what=\"connections\"}"), "{metrics}");
    let stats = program(folder.path()).args(["cache", "stats", "--config", "pullthrough.yaml"]).output().unwrap();
    // The answer to a command that needs more files than the one it came by is the reason.
    let told = String::from_utf8_lossy(&stats.stderr);
    assert!(stats.status.success() || told.contains("the proxy has no free file descriptor"), "{stats:?}");
    assert_eq!(log().matches("cannot accept").count(), 1, "{}", log());
    drop(held);
    until("the door is open", async || get(server.proxy(), "/healthz").is_ok_and(|told| told.contains("alive"))).await;
}
