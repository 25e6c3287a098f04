//! Fills that nobody waits for: finished where little is missing, else parked and continued, over restarts too.

use http_body_util::BodyExt;
use pullthrough::oci::Digest;
use pullthrough::wire::Body;

use super::{QUAY, layer};
use crate::support::{Act, Gate, Plan, Proxy, Registry, eventually};

const BLOBS: &str = "GET */blobs/sha*";
const LENGTH: usize = 6_000_000;
const PICKY: &str = "finish_rest: 1MiB, finish_share: 90%";

/// A client that reads a little of a blob and leaves, while the upstream has sent 4,000,000 bytes of it.
async fn left(config: &str) -> (Registry, Proxy, Gate, Vec<u8>, Digest) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").fill(config).start().await;
    let bytes = layer(LENGTH, 90);
    let digest = registry.push_blob("a", bytes.clone());
    let gate = Gate::new();
    registry.script_times(1, BLOBS, Act::Hold(4_000_000, gate.clone()));
    let mut session = proxy.client().session(QUAY).await;
    let path = format!("/v2/a/blobs/{digest}");
    let mut answer = session.send("GET", &path, &[], Body::empty()).await.unwrap();
    let mut got = 0;
    while got < 3_900_000 {
        got += answer.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    drop((answer, session));
    (registry, proxy, gate, bytes, digest)
}

async fn continued(registry: &Registry, proxy: &Proxy, bytes: &[u8], digest: &Digest) {
    let answer = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    assert!(*answer.bytes() == bytes);
    proxy.stored(digest).await;
    assert_eq!(registry.count(BLOBS), 2);
    let range = registry.requests()[1].headers["range"].to_str().unwrap().to_owned();
    let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    assert!((3_900_000..=4_000_000).contains(&from), "only the rest was asked for: {range}");
    eventually("nothing is left of the fill", || proxy.files() == (1, 0)).await;
}

#[tokio::test]
async fn a_fill_that_nobody_waits_for_is_parked_and_continued_on_the_next_demand() {
    let (registry, proxy, gate, bytes, digest) = left(PICKY).await;
    eventually("it is parked", || proxy.files() == (0, 2)).await;
    assert_eq!(proxy.metric("pullthrough_fills_in_progress").await, 0.0);
    gate.open();
    assert_eq!(registry.count(BLOBS), 1);
    continued(&registry, &proxy, &bytes, &digest).await;
}

#[tokio::test]
async fn a_parked_fill_survives_a_restart() {
    let (registry, mut proxy, _gate, bytes, digest) = left(PICKY).await;
    eventually("it is parked", || proxy.files() == (0, 2)).await;
    proxy.restart().await;
    assert_eq!(proxy.files(), (0, 2));
    continued(&registry, &proxy, &bytes, &digest).await;
}

#[tokio::test]
async fn a_fill_under_way_survives_a_restart() {
    let (registry, mut proxy, _gate, bytes, digest) = left("").await;
    proxy.restart().await; // more than half of it had landed: it was still going on
    assert_eq!(proxy.files(), (0, 2));
    continued(&registry, &proxy, &bytes, &digest).await;
}

#[tokio::test]
async fn a_fill_of_which_much_is_there_or_little_is_missing_goes_on() {
    for config in ["finish_rest: 1MiB, finish_share: 50%", "finish_rest: 4MiB, finish_share: 90%"] {
        let (registry, proxy, gate, _, digest) = left(config).await;
        gate.open();
        proxy.stored(&digest).await;
        assert_eq!(registry.count(BLOBS), 1, "{config}");
    }
}

/// A page that answers whatever is asked, and does not say how long it is.
fn say_200_to_everything(registry: &Registry) {
    let headers = vec![("content-type".into(), "text/html".into())];
    registry.script("*", Act::Answer { status: 200, headers, body: "<login>".into() });
    registry.script("*", Act::NoLength);
}

/// What somebody else is given for the blob, whatever becomes of it.
async fn asked_by_another(proxy: &Proxy, digest: &Digest) -> (u16, usize) {
    let mut session = proxy.client().session(QUAY).await;
    let headers = [("authorization", "Basic bWFsbG9yeTpndWVzcw==")];
    let mut answer = session.send("GET", &format!("/v2/a/blobs/{digest}"), &headers, Body::empty()).await.unwrap();
    let mut got = 0;
    while let Some(Ok(frame)) = answer.frame().await {
        got += frame.into_data().map_or(0, |data| data.len());
    }
    (answer.status().as_u16(), got)
}

#[tokio::test]
async fn a_page_that_says_200_to_everything_opens_no_fill_that_was_left_to_its_reader() {
    let (registry, proxy, _gate, _, digest) = left(PICKY).await;
    eventually("it is parked", || proxy.files() == (0, 2)).await;
    say_200_to_everything(&registry);
    assert_eq!(asked_by_another(&proxy, &digest).await.0, 502);
}

#[tokio::test]
async fn a_page_that_says_200_to_everything_opens_no_fill_under_way_to_its_reader() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    let digest = registry.push_blob("a", layer(LENGTH, 91));
    let gate = Gate::new();
    registry.script_times(1, BLOBS, Act::Hold(4_000_000, gate.clone()));
    let mut session = proxy.client().session(QUAY).await;
    let mut reading =
        session.send("GET", &format!("/v2/a/blobs/{digest}"), &[], Body::empty()).await.unwrap().into_body();
    reading.frame().await.unwrap().unwrap();
    say_200_to_everything(&registry);
    assert_eq!(asked_by_another(&proxy, &digest).await.0, 502);
    gate.open();
}

#[tokio::test]
async fn a_fill_whose_length_nobody_said_is_parked_too_once_it_is_longer_than_what_is_finished_for_nobody() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").fill(PICKY).start().await;
    let digest = registry.push_blob("a", layer(LENGTH, 92));
    let gate = Gate::new();
    registry.script(BLOBS, Act::NoLength);
    registry.script_times(1, BLOBS, Act::Hold(4_000_000, gate.clone()));
    let mut session = proxy.client().session(QUAY).await;
    let mut answer = session.send("GET", &format!("/v2/a/blobs/{digest}"), &[], Body::empty()).await.unwrap();
    answer.frame().await.unwrap().unwrap();
    drop((answer, session));
    eventually("it is parked", || proxy.files() == (0, 2)).await;
    assert_eq!(proxy.metric("pullthrough_fills_in_progress").await, 0.0);
    gate.open();
}
