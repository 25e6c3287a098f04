//! Ranges of cold blobs, as lazy-pulling clients ask for them: right, at once, and by single ranges upstream.

use futures_util::future::join_all;
use http_body_util::BodyExt;
use pullthrough::wire::Body;

use super::{QUAY, get, layer, quay};
use crate::support::client::Whole;
use crate::support::{Act, Gate, Proxy, Registry};

const BLOBS: &str = "GET */blobs/sha*";
const MIB: usize = 1 << 20;

/// A blob whose first download stops after so many bytes until the gate opens; every other request is served.
async fn held(length: usize, after: u64) -> (Registry, Proxy, Gate, Vec<u8>, String) {
    let (registry, proxy) = quay().await;
    let bytes = layer(length, 70);
    let digest = registry.push_blob("a", bytes.clone());
    let gate = Gate::new();
    registry.script_times(1, BLOBS, Act::Hold(after, gate.clone()));
    (registry, proxy, gate, bytes, format!("/v2/a/blobs/{digest}"))
}

/// The parts of a multipart answer: first byte, and bytes.
fn parts(answer: &Whole) -> Vec<(usize, Vec<u8>)> {
    let boundary = answer.header("content-type").split_once("boundary=").expect("multipart").1.to_owned();
    let (mut rest, mut parts) = (&answer.bytes()[..], Vec::new());
    let delimiter = format!("--{boundary}");
    loop {
        let start = rest.windows(delimiter.len()).position(|text| text == delimiter.as_bytes()).unwrap();
        rest = &rest[start + delimiter.len()..];
        if rest.starts_with(b"--") {
            return parts;
        }
        let end = rest.windows(4).position(|text| text == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(rest[..end].to_vec()).unwrap().to_lowercase();
        let range = head.split("content-range: bytes ").nth(1).unwrap().split('/').next().unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        parts.push((first, rest[end..end + last + 1 - first].to_vec()));
        rest = &rest[end + last + 1 - first..];
    }
}

fn ranges_seen(registry: &Registry) -> Vec<String> {
    let text = |seen: &crate::support::Seen| seen.headers.get("range").map(|range| range.to_str().unwrap().to_owned());
    registry.requests().iter().filter_map(text).collect()
}

#[tokio::test]
async fn the_end_of_a_cold_blob_is_answered_without_the_rest() {
    let (registry, proxy, gate, bytes, path) = held(24 * MIB, 100_000).await;
    let answer = get(&mut proxy.client().session(QUAY).await, &path, &[("range", "bytes=-65536")]).await;
    assert_eq!((answer.status.as_u16(), *answer.bytes() == bytes[24 * MIB - 65536..]), (206, true));
    assert_eq!(ranges_seen(&registry), [format!("bytes={}-{}", 24 * MIB - 65536, 24 * MIB - 1)]);
    assert_eq!(registry.requests().len(), 2);
    gate.open();
    let whole = proxy.client().get(QUAY, &path).await;
    assert!(*whole.bytes() == bytes);
    assert_eq!(registry.requests().len(), 2, "the fill leaves out what is there, and goes on in its stream");
}

#[tokio::test]
async fn stargz_probes_and_fetches_hundreds_of_parts_of_a_cold_blob() {
    let (registry, proxy, gate, bytes, path) = held(24 * MIB, 100_000).await;
    let mut session = proxy.client().session(QUAY).await;
    let probe = get(&mut session, &path, &[("range", "bytes=0-1"), ("accept-encoding", "identity")]).await;
    assert_eq!((probe.status.as_u16(), probe.header("content-range")), (206, "bytes 0-1/25165824"));
    assert_eq!(probe.bytes()[..], bytes[..2]);
    // Chunks of 50 kB: some touch, some lie a little apart, and clusters of them far apart.
    let mut asked = Vec::new();
    for cluster in [6 * MIB, 12 * MIB, 22 * MIB] {
        asked.extend((0..100).map(|chunk| cluster + chunk * 6000).map(|from| (from, from + 5000)));
        asked.push((cluster + 600_000, cluster + 605_000));
        asked.push((cluster + 605_000, cluster + 610_000));
    }
    let list: Vec<String> = asked.iter().map(|(from, to)| format!("{from}-{}", to - 1)).collect();
    let range = format!("bytes={}", list.join(","));
    let answer = get(&mut session, &path, &[("range", &range), ("accept-encoding", "identity")]).await;
    assert_eq!(answer.status, 206);
    let parts = parts(&answer);
    assert_eq!(parts.len(), 303, "two of each cluster touch and are one");
    for (first, part) in &parts {
        assert!(bytes[*first..*first + part.len()] == part[..], "the part at {first}");
    }
    let seen = ranges_seen(&registry);
    assert!(seen.iter().all(|range| !range.contains(',')), "the upstream is asked for single ranges: {seen:?}");
    assert!(seen.len() <= 6, "neighbours are fetched together: {seen:?}");
    gate.open();
    let whole = proxy.client().get(QUAY, &path).await;
    assert!(*whole.bytes() == bytes);
}

#[tokio::test]
async fn soci_fetches_one_cold_layer_by_many_ranges_in_flight() {
    let (registry, proxy, gate, bytes, path) = held(24 * MIB, 100_000).await;
    let ask = |from: usize| {
        let (proxy, path, bytes) = (&proxy, &path, &bytes);
        async move {
            let range = format!("bytes={from}-{}", from + 2 * MIB - 1);
            let answer = get(&mut proxy.client().session(QUAY).await, path, &[("range", &range)]).await;
            assert!(*answer.bytes() == bytes[from..from + 2 * MIB], "{range}");
        }
    };
    join_all((2..12).map(|part| ask(part * 2 * MIB))).await;
    assert_eq!(registry.requests().iter().filter(|seen| !seen.headers.contains_key("range")).count(), 1);
    gate.open();
    assert!(*proxy.client().get(QUAY, &path).await.bytes() == bytes);
}

#[tokio::test]
async fn containerds_open_ranges_with_early_hang_ups_neither_restart_nor_cancel_the_fill() {
    let (registry, proxy, gate, bytes, path) = held(24 * MIB, 100_000).await;
    let chunk = |from: usize| {
        let (proxy, path, bytes) = (&proxy, &path, &bytes);
        async move {
            let mut session = proxy.client().session(QUAY).await;
            let range = format!("bytes={from}-");
            let answer = session.send("GET", path, &[("range", &range)], Body::empty()).await.unwrap();
            assert_eq!(answer.status(), 206);
            let (mut body, mut got) = (answer.into_body(), Vec::new());
            while got.len() < 3 * MIB {
                got.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
            }
            assert!(got[..3 * MIB] == bytes[from..from + 3 * MIB], "{range}");
        }
    };
    join_all((1..8).map(|part| chunk(part * 3 * MIB))).await;
    gate.open();
    chunk(0).await;
    assert!(*proxy.client().get(QUAY, &path).await.bytes() == bytes);
    let plain = registry.requests().iter().filter(|seen| !seen.headers.contains_key("range")).count();
    assert_eq!(plain, 1, "never from the beginning again");
}

#[tokio::test]
async fn an_upstream_without_ranges_still_answers_every_range() {
    let (registry, proxy) = quay().await;
    registry.script(BLOBS, Act::IgnoreRange);
    let bytes = layer(8 * MIB, 71);
    let digest = registry.push_blob("a", bytes.clone());
    let gate = Gate::new();
    registry.script_times(1, BLOBS, Act::Hold(100_000, gate.clone()));
    let path = format!("/v2/a/blobs/{digest}");
    let far = async { get(&mut proxy.client().session(QUAY).await, &path, &[("range", "bytes=-1000")]).await };
    let opening = async {
        crate::support::eventually("the range was tried", || registry.requests().len() == 2).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(far, opening);
    assert_eq!((answer.status.as_u16(), *answer.bytes() == bytes[8 * MIB - 1000..]), (206, true));
    assert_eq!(registry.requests().len(), 2, "it was believed the first time");
}

#[tokio::test]
async fn ranges_over_the_same_bytes_do_not_amplify() {
    let (_registry, proxy, gate, bytes, path) = held(MIB, 100_000).await;
    gate.open();
    let range = format!("bytes={}", vec!["0-"; 1000].join(","));
    let answer = get(&mut proxy.client().session(QUAY).await, &path, &[("range", &range)]).await;
    assert!(*answer.bytes() == bytes);
    let range = format!("bytes={}", (0..500).map(|n| format!("{n}-")).collect::<Vec<_>>().join(","));
    let answer = get(&mut proxy.client().session(QUAY).await, &path, &[("range", &range)]).await;
    assert!(answer.bytes().len() <= bytes.len());
}

#[tokio::test]
async fn if_range_decides_between_the_part_and_the_whole_of_a_cold_blob() {
    for (tag, status) in [("right", 206), ("wrong", 200)] {
        let (registry, proxy) = quay().await;
        let bytes = layer(100_000, 72);
        let digest = registry.push_blob("a", bytes.clone());
        let tag = if tag == "right" { format!("\"{digest}\"") } else { "\"other\"".to_owned() };
        let mut session = proxy.client().session(QUAY).await;
        let path = format!("/v2/a/blobs/{digest}");
        let answer = get(&mut session, &path, &[("range", "bytes=10-19"), ("if-range", &tag)]).await;
        assert_eq!(answer.status, status);
        let expected = if status == 206 { &bytes[10..20] } else { &bytes[..] };
        assert!(answer.bytes()[..] == *expected);
    }
}
