//! Several ranges of one blob at a time: where they gain something, over all endpoints, and never too many.

use futures_util::future::join_all;

use super::{QUAY, layer};
use crate::support::{Act, Gate, Plan, Proxy, Registry, Setup, eventually};

const BLOBS: &str = "GET */blobs/sha*";
const MIB: usize = 1 << 20;

fn http1(name: &str) -> Registry {
    Registry::with(Setup { h2: false, ..Setup::named(name) })
}

/// A registry, a mirror of it, and the lines that configure both.
fn with_mirror() -> (Registry, Registry, String) {
    let registry = http1("quay.io");
    let mirror = registry.sibling(Setup { h2: false, ..Setup::named("mirror.internal") });
    let endpoint = |server: &Registry| {
        let (name, address, ca) = (server.name(), server.address(), server.ca_file());
        format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca.display())
    };
    let both = format!("'quay.io': {{endpoints: [{}, {}]}}", endpoint(&registry), endpoint(&mirror));
    (registry, mirror, both)
}

fn ranged(registry: &Registry) -> usize {
    registry.requests().iter().filter(|seen| seen.headers.contains_key("range")).count()
}

async fn pulled(registry: &Registry, proxy: &Proxy, length: usize, seed: u64) {
    let bytes = layer(length, seed);
    let digest = registry.push_blob("a", bytes.clone());
    let answer = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    assert!(*answer.bytes() == bytes);
    proxy.stored(&digest).await;
}

#[tokio::test]
async fn a_large_blob_from_slow_connections_is_fetched_by_several() {
    let registry = http1("quay.io");
    registry.script(BLOBS, Act::Throttle(6_000_000));
    let proxy = Plan::new().registry(&registry, "").fill("parallel_from: 8MiB, lanes: 4").start().await;
    pulled(&registry, &proxy, 24 * MIB, 80).await;
    assert!(ranged(&registry) >= 2, "others joined the first");
    assert!(registry.connections() >= 2, "over connections of their own");
}

#[tokio::test]
async fn a_small_blob_and_one_of_a_single_lane_are_fetched_by_one_request() {
    for (config, length) in [("parallel_from: 8MiB", 4 * MIB), ("parallel_from: 1MiB, lanes: 1", 8 * MIB)] {
        let registry = http1("quay.io");
        registry.script(BLOBS, Act::Throttle(8_000_000));
        let proxy = Plan::new().registry(&registry, "").fill(config).start().await;
        pulled(&registry, &proxy, length, 81).await;
        assert_eq!((registry.count(BLOBS), ranged(&registry)), (1, 0), "{config}");
    }
}

#[tokio::test]
async fn lanes_are_cut_and_resumed_like_one() {
    let registry = http1("quay.io");
    registry.script(BLOBS, Act::Throttle(6_000_000));
    registry.script_times(6, BLOBS, Act::CutAnywhere(crate::support::Dice::seeded(82)));
    let proxy = Plan::new().registry(&registry, "").fill("parallel_from: 8MiB, lanes: 4").start().await;
    pulled(&registry, &proxy, 24 * MIB, 82).await;
}

#[tokio::test]
async fn the_lanes_of_a_blob_are_spread_over_the_endpoints() {
    let (registry, mirror, both) = with_mirror();
    let proxy = Plan::new().raw_registry(&both).fill("parallel_from: 8MiB, lanes: 4").start().await;
    for server in [&registry, &mirror] {
        server.script(BLOBS, Act::Throttle(6_000_000));
    }
    pulled(&registry, &proxy, 24 * MIB, 83).await;
    assert!(registry.count(BLOBS) >= 1 && mirror.count(BLOBS) >= 1);
}

#[tokio::test]
async fn what_one_endpoint_breaks_off_the_next_one_continues() {
    let (registry, mirror, both) = with_mirror();
    let proxy = Plan::new().raw_registry(&both).start().await;
    registry.script(BLOBS, Act::Cut(100_000));
    pulled(&registry, &proxy, 300_000, 84).await;
    assert_eq!((registry.count(BLOBS), mirror.count(BLOBS)), (1, 1));
    assert_eq!(mirror.requests()[0].headers["range"], "bytes=100000-");
    assert!(!mirror.requests()[0].headers.contains_key("if-range"), "one endpoint's tag means nothing to another");
}

#[tokio::test]
async fn what_stalls_at_one_endpoint_comes_from_the_other_from_there_on() {
    let (registry, mirror, both) = with_mirror();
    let proxy = Plan::new().raw_registry(&both).impatient().start().await;
    registry.script(BLOBS, Act::Stall(100_000));
    mirror.script_times(1, BLOBS, Act::Cut(100_000));
    mirror.script_times(1, BLOBS, Act::Cut(100_000));
    pulled(&registry, &proxy, 450_000, 86).await;
    let asked = |server: &Registry| -> Vec<String> {
        let range =
            |seen: &crate::support::Seen| seen.headers.get("range").map(|range| range.to_str().unwrap().to_owned());
        server
            .requests()
            .iter()
            .filter(|seen| seen.method == "GET")
            .map(|seen| range(seen).unwrap_or_default())
            .collect()
    };
    // Who failed last is asked last: the mirror's cut leads back to the registry, whose stall leads to the mirror.
    assert_eq!(asked(&registry), ["", "bytes=200000-"]);
    assert_eq!(asked(&mirror), ["bytes=100000-", "bytes=300000-"]);
}

#[tokio::test]
async fn after_a_lie_the_next_pull_asks_the_other_endpoint() {
    let (registry, mirror, both) = with_mirror();
    let proxy = Plan::new().raw_registry(&both).start().await;
    registry.script(BLOBS, Act::WrongByte(1000));
    let bytes = layer(300_000, 87);
    let digest = registry.push_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let first = super::get(&mut proxy.client().session(QUAY).await, &path, &[]).await;
    first.body.expect_err("a wrong content must not end cleanly");
    assert_eq!((registry.count(BLOBS), mirror.count(BLOBS)), (1, 0));
    let second = proxy.client().get(QUAY, &path).await;
    assert!(*second.bytes() == bytes);
    assert_eq!((registry.count(BLOBS), mirror.count(BLOBS)), (1, 1));
    proxy.stored(&digest).await;
}

#[tokio::test]
async fn one_host_never_serves_more_downloads_than_it_may() {
    let registry = http1("quay.io");
    let gate = Gate::new();
    registry.script(BLOBS, Act::Hold(1000, gate.clone()));
    let proxy = Plan::new().registry(&registry, "");
    // The support's plan has an `upstream:` section already.
    let proxy = proxy.downloads_per_host(2).start().await;
    let bytes: Vec<Vec<u8>> = (0..5).map(|n| layer(50_000, 85 + n)).collect();
    let paths: Vec<String> =
        bytes.iter().map(|bytes| format!("/v2/a/blobs/{}", registry.push_blob("a", bytes.clone()))).collect();
    let client = proxy.client();
    let pulls = join_all(paths.iter().map(|path| client.get(QUAY, path)));
    let watching = async {
        eventually("two are under way", || registry.count(BLOBS) == 2).await;
        // A manifest is no download: it passes, and nothing else has begun meanwhile.
        assert_eq!(proxy.client().get(QUAY, "/v2/a/manifests/none").await.status, 404);
        assert_eq!(registry.count(BLOBS), 2);
        gate.open();
    };
    let (answers, ()) = tokio::join!(pulls, watching);
    assert!(answers.iter().zip(&bytes).all(|(answer, bytes)| answer.bytes() == bytes));
    assert_eq!(registry.count(BLOBS), 5);
}
