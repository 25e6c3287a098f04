//! Blobs: one download, followers from the first byte, resumption, and no wrong byte.

use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::BodyExt;
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::wire::Body;

use super::{QUAY, get, layer, quay};
use crate::support::client::whole;
use crate::support::{Act, Dice, Gate, Plan, Registry, Seen, Setup, basic_value, eventually, until};

const BLOBS: &str = "GET */blobs/sha*";

#[tokio::test]
async fn a_blob_is_fetched_once_and_then_served_from_the_cache() {
    let (registry, proxy) = quay().await;
    let bytes = layer(3_000_000, 1);
    let digest = registry.push_blob("org/app", bytes.clone());
    let path = format!("/v2/org/app/blobs/{digest}");
    let mut session = proxy.client().session(QUAY).await;
    let first = session.get(&path).await;
    assert_eq!(first.header("cache-status"), "pullthrough; fwd=uri-miss; stored");
    assert_eq!(first.bytes(), &bytes);
    proxy.stored(&digest).await;
    let second = session.get(&path).await;
    assert_eq!(second.header("cache-status"), "pullthrough; hit");
    assert_eq!(second.bytes(), &bytes);
    for answer in [&first, &second] {
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        assert_eq!(answer.header("content-length"), "3000000");
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("via"), "1.1 pullthrough");
    }
    assert_eq!(registry.requests().len(), 1);
    assert_eq!(std::fs::read(proxy.blob_file(&digest)).unwrap(), bytes);
}

#[tokio::test]
async fn a_crowd_on_one_cold_blob_makes_one_download_and_all_have_their_first_byte_while_it_runs() {
    let (registry, proxy) = quay().await;
    let bytes = layer(2_000_000, 2);
    let digest = registry.push_blob("a", bytes.clone());
    let gate = Gate::new();
    registry.script(BLOBS, Act::Hold(1_000_000, gate.clone()));
    let path = format!("/v2/a/blobs/{digest}");
    let pulls = join_all((0..64).map(|_| async {
        let mut session = proxy.client().session(QUAY).await;
        let answer = session.send("GET", &path, &[], Body::empty()).await.unwrap();
        let (head, mut body) = answer.into_parts();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        (session, head, body, first)
    }))
    .await;
    // Everybody has a byte, and the upstream has not sent the second half yet.
    gate.open();
    let rest = join_all(pulls.into_iter().map(|(session, head, body, first)| async move {
        let rest = body.collect().await.unwrap().to_bytes();
        drop(session);
        (head.headers["cache-status"].clone(), [&first[..], &rest[..]].concat())
    }))
    .await;
    assert!(rest.iter().all(|(_, got)| *got == bytes));
    let led = rest.iter().filter(|(status, _)| *status == "pullthrough; fwd=uri-miss; stored").count();
    let joined = rest.iter().filter(|(status, _)| *status == "pullthrough; fwd=uri-miss; collapsed").count();
    assert_eq!((led, joined), (1, 63));
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn a_reader_that_leaves_does_not_stop_the_fill() {
    let (registry, proxy) = quay().await;
    let digest = registry.push_blob("a", layer(1_000_000, 3));
    let gate = Gate::new();
    registry.script(BLOBS, Act::Hold(10_000, gate.clone()));
    let path = format!("/v2/a/blobs/{digest}");
    let mut session = proxy.client().session(QUAY).await;
    let mut answer = session.send("GET", &path, &[], Body::empty()).await.unwrap();
    answer.frame().await.unwrap().unwrap();
    drop(answer);
    drop(session);
    gate.open();
    proxy.stored(&digest).await;
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn a_slow_reader_does_not_slow_the_fill() {
    let (registry, proxy) = quay().await;
    let bytes = layer(20_000_000, 4); // far more than the sockets between can hold
    let digest = registry.push_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let mut slow = proxy.client().session(QUAY).await;
    let mut answer = slow.send("GET", &path, &[], Body::empty()).await.unwrap();
    let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
    proxy.stored(&digest).await;
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    assert!([&first[..], &rest[..]].concat() == bytes, "it still gets every byte");
}

#[tokio::test]
async fn a_cut_upstream_is_resumed_and_no_client_notices() {
    let (registry, proxy) = quay().await;
    let dice = Dice::seeded(5);
    for seed in 0..12 {
        registry.script_times(8, BLOBS, Act::CutAnywhere(dice.clone()));
        let bytes = layer(300_000, 100 + seed);
        let digest = registry.push_blob("a", bytes.clone());
        let answer = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
        assert_eq!(answer.status, 200);
        assert!(*answer.bytes() == bytes, "seed {seed}");
    }
    let resumed = registry.requests().iter().filter(|seen| seen.headers.contains_key("range")).count();
    assert!(resumed > 0, "something was cut");
    assert_eq!(proxy.metric("pullthrough_fill_resumes_total").await as usize, resumed);
}

#[tokio::test]
async fn an_upstream_without_ranges_is_resumed_too() {
    let (registry, proxy) = quay().await;
    registry.script(BLOBS, Act::IgnoreRange);
    registry.script_times(1, BLOBS, Act::Cut(150_000));
    let bytes = layer(300_000, 6);
    let digest = registry.push_blob("a", bytes.clone());
    let answer = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    assert!(*answer.bytes() == bytes);
    assert_eq!(registry.count(BLOBS), 2);
}

#[tokio::test]
async fn a_stalled_upstream_is_left_after_the_idle_timeout_and_asked_for_the_rest() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").impatient().start().await;
    registry.script_times(1, BLOBS, Act::Stall(100_000));
    let bytes = layer(300_000, 7);
    let digest = registry.push_blob("a", bytes.clone());
    let answer = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    assert!(*answer.bytes() == bytes);
    let requests = registry.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].headers["range"], "bytes=100000-");
}

#[tokio::test]
async fn an_upstream_that_lies_about_a_digest_completes_no_client_and_leaves_nothing() {
    for (h2, range) in [(false, None), (true, None), (false, Some("bytes=0-")), (true, Some("bytes=0-"))] {
        let (registry, proxy) = quay().await;
        let digest = registry.push_blob("a", layer(500_000, 8));
        registry.script(BLOBS, Act::WrongByte(250_000));
        let path = format!("/v2/a/blobs/{digest}");
        let client = if h2 { proxy.client().h2() } else { proxy.client() };
        let headers: Vec<(&str, &str)> = range.iter().map(|range| ("range", *range)).collect();
        let answers =
            join_all((0..8).map(|_| async { get(&mut client.session(QUAY).await, &path, &headers).await })).await;
        for answer in answers {
            if answer.status.is_success() {
                let got = answer.body.expect_err("it must not end cleanly");
                assert!(got.len() < 500_000, "the last byte is held");
            }
        }
        eventually("nothing is kept", || proxy.files() == (0, 0)).await;
        assert!(proxy.metric("pullthrough_digest_mismatches_total").await >= 1.0);
    }
}

#[tokio::test]
async fn a_wrong_length_never_completes() {
    for wrong in [-1000, 1000] {
        let (registry, proxy) = quay().await;
        let bytes = layer(50_000, 9);
        let digest = registry.push_blob("a", bytes.clone());
        let lines = [registry.script(BLOBS, Act::WrongLength(wrong)), registry.script(BLOBS, Act::IgnoreRange)];
        let path = format!("/v2/a/blobs/{digest}");
        let answer = proxy.client().get(QUAY, &path).await;
        assert!(!answer.status.is_success() || answer.body.is_err(), "{wrong}");
        until("no fill is left", async || proxy.metric("pullthrough_fills_in_progress").await == 0.0).await;
        lines.into_iter().for_each(|line| registry.unscript(line));
        // What had landed goes with the length that is wrong, once the registry says another one.
        until("it pulls", async || proxy.client().get(QUAY, &path).await.body.is_ok_and(|body| body == bytes)).await;
        eventually("nothing else is kept", || proxy.files() == (1, 0)).await;
    }
}

#[tokio::test]
async fn an_empty_blob_and_a_sha512_blob_are_blobs() {
    let (registry, proxy) = quay().await;
    let empty = registry.push_blob("a", &b""[..]);
    let bytes = layer(10_000, 10);
    let long = Digest::of(Algorithm::Sha512, &bytes);
    registry.push_blob_as("a", &long, bytes.clone());
    let mut session = proxy.client().session(QUAY).await;
    for (digest, expected) in [(empty, Vec::new()), (long, bytes)] {
        for status in ["pullthrough; fwd=uri-miss; stored", "pullthrough; hit"] {
            let answer = session.get(&format!("/v2/a/blobs/{digest}")).await;
            assert_eq!(*answer.bytes(), expected);
            assert_eq!(answer.header("cache-status"), status);
            proxy.stored(&digest).await;
        }
    }
    let lying = Digest::of(Algorithm::Sha256, b"something");
    registry.push_blob_as("a", &lying, &b""[..]);
    let answer = proxy.client().get(QUAY, &format!("/v2/a/blobs/{lying}")).await;
    assert!(!answer.status.is_success(), "an empty body for another digest has no headers even");
}

#[tokio::test]
async fn ranges_are_answered_from_a_cold_blob_and_from_a_hot_one() {
    let bytes = layer(2048, 11);
    let cases: [(&str, u16, &str, std::ops::Range<usize>); 8] = [
        ("bytes=500-1499", 206, "bytes 500-1499/2048", 500..1500),
        ("bytes=500-", 206, "bytes 500-2047/2048", 500..2048),
        ("bytes=-500", 206, "bytes 1548-2047/2048", 1548..2048),
        ("bytes=2000-5000", 206, "bytes 2000-2047/2048", 2000..2048),
        ("bytes=0-", 206, "bytes 0-2047/2048", 0..2048),
        ("bytes=500-0", 416, "bytes */2048", 0..0),
        ("bytes=5000-10000", 416, "bytes */2048", 0..0),
        ("bytes=nonsense", 200, "", 0..2048),
    ];
    for (range, status, content_range, expected) in cases {
        let (registry, proxy) = quay().await;
        let digest = registry.push_blob("a", bytes.clone());
        let path = format!("/v2/a/blobs/{digest}");
        let mut session = proxy.client().session(QUAY).await;
        for state in ["cold", "hot"] {
            let answer = get(&mut session, &path, &[("range", range)]).await;
            assert_eq!(answer.status, status, "{state} {range}");
            assert_eq!(answer.header("content-range"), content_range, "{state} {range}");
            if status != 416 {
                assert_eq!(answer.bytes()[..], bytes[expected.clone()], "{state} {range}");
            }
            proxy.stored(&digest).await;
        }
        assert_eq!(registry.requests().len(), 1, "{range}");
    }
}

#[tokio::test]
async fn head_never_downloads_a_blob() {
    let (registry, proxy) = quay().await;
    let digest = registry.push_blob("a", layer(5000, 12));
    let path = format!("/v2/a/blobs/{digest}");
    let mut session = proxy.client().session(QUAY).await;
    let cold = session.ask("HEAD", &path, &[]).await;
    assert_eq!((cold.status.as_u16(), cold.header("content-length")), (200, "5000"));
    assert_eq!((registry.count("HEAD *"), registry.count("GET *")), (1, 0));
    session.get(&path).await;
    proxy.stored(&digest).await;
    let hot = session.ask("HEAD", &path, &[]).await;
    assert_eq!((hot.header("content-length"), hot.header("cache-status")), ("5000", "pullthrough; hit"));
    assert_eq!((registry.count("HEAD *"), registry.count("GET *")), (1, 1));
}

#[tokio::test]
async fn blobs_behind_redirects_are_fetched_without_credentials_and_kept() {
    let registry = Registry::start("quay.io");
    let cdn = registry.sibling(Setup::named("cdn.quay.io"));
    registry.redirect_blobs("https://cdn.quay.io");
    let proxy = Plan::new().registry(&registry, "").host("cdn.quay.io", &cdn).start().await;
    let bytes = layer(100_000, 13);
    let digest = registry.push_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let mut session = proxy.client().session(QUAY).await;
    let answer = get(&mut session, &path, &[("authorization", "Bearer secret")]).await;
    assert_eq!((answer.status.as_u16(), *answer.bytes() == bytes), (200, true));
    assert_eq!((registry.count(BLOBS), cdn.count(BLOBS)), (1, 1));
    assert_eq!(registry.requests()[0].headers["authorization"], "Bearer secret");
    assert!(!cdn.requests()[0].headers.contains_key("authorization"));
    proxy.stored(&digest).await;
    get(&mut session, &path, &[("authorization", "Bearer secret")]).await;
    assert_eq!((registry.count(BLOBS), cdn.count(BLOBS)), (1, 1));
}

#[tokio::test]
async fn an_expired_signature_at_the_cdn_is_cured_by_a_fresh_redirect() {
    let registry = Registry::start("quay.io");
    let cdn = registry.sibling(Setup::named("cdn.quay.io"));
    registry.redirect_blobs("https://cdn.quay.io");
    cdn.script_times(1, BLOBS, Act::Cut(50_000));
    let proxy = Plan::new().registry(&registry, "").host("cdn.quay.io", &cdn).start().await;
    let bytes = layer(100_000, 14);
    let digest = registry.push_blob("a", bytes.clone());
    let answer = proxy.client().get(QUAY, &format!("/v2/a/blobs/{digest}")).await;
    assert!(*answer.bytes() == bytes);
    assert_eq!((registry.count(BLOBS), cdn.count(BLOBS)), (2, 2), "asked again from the registry on");
}

#[tokio::test]
async fn what_the_cache_cannot_hold_passes_through_verified() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").cache("max_size: 1MiB").start().await;
    let bytes = layer(3 << 20, 15);
    let digest = registry.push_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let answer = proxy.client().get(QUAY, &path).await;
    assert_eq!(answer.header("cache-status"), "pullthrough; fwd=bypass");
    assert!(*answer.bytes() == bytes);
    assert_eq!(proxy.files(), (0, 0));
    registry.script(BLOBS, Act::WrongByte(1_000_000));
    let wrong = proxy.client().get(QUAY, &path).await;
    assert!(wrong.body.is_err(), "a wrong content does not end cleanly here either");
    let part = get(&mut proxy.client().session(QUAY).await, &path, &[("range", "bytes=10-19")]).await;
    assert_eq!((part.status.as_u16(), part.header("content-range")), (206, "bytes 10-19/3145728"));
    assert!(part.bytes()[..] == bytes[10..20]);
}

#[tokio::test]
async fn a_reader_of_a_blob_that_was_damaged_on_disk_is_continued_from_the_registry() {
    use std::os::unix::fs::FileExt;
    for at in [0, 2_000_000, 2_999_999] {
        let (registry, proxy) = quay().await;
        let bytes = layer(3_000_000, 18);
        let digest = registry.push_blob("a", bytes.clone());
        let path = format!("/v2/a/blobs/{digest}");
        proxy.client().get(QUAY, &path).await;
        proxy.stored(&digest).await;
        while proxy.client().get(QUAY, &path).await.header("cache-status") != "pullthrough; hit" {
            eventually("no fill is left", || proxy.files().1 == 0).await; // it may just be ending
        }
        let file = std::fs::File::options().write(true).open(proxy.blob_file(&digest)).unwrap();
        file.write_all_at(&[bytes[at as usize] ^ 8], at).unwrap();
        let answer = proxy.client().get(QUAY, &path).await;
        assert!(*answer.bytes() == bytes, "damage at {at}");
        assert_eq!(answer.header("cache-status"), "pullthrough; hit");
        let plain = registry.requests().iter().filter(|seen| !seen.headers.contains_key("range")).count();
        assert_eq!(plain, 2, "fetched again once; a reader far in gets a range of its own");
        eventually("it is stored anew", || std::fs::read(proxy.blob_file(&digest)).is_ok_and(|now| now == bytes)).await;
    }
}

#[tokio::test]
async fn an_upstream_that_says_no_length_is_followed_all_the_same() {
    let (registry, proxy) = quay().await;
    registry.script(BLOBS, Act::NoLength);
    let bytes = layer(400_000, 16);
    let digest = registry.push_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    for h2 in [false, true] {
        let client = if h2 { proxy.client().h2() } else { proxy.client() };
        let mut session = client.session(QUAY).await;
        let answer = whole(session.send("GET", &path, &[], Body::empty()).await.unwrap()).await;
        assert!(*answer.bytes() == bytes);
    }
    proxy.stored(&digest).await;
}

#[tokio::test]
async fn an_upstream_that_takes_long_to_its_first_byte_is_answered_for_and_found_again() {
    let (registry, proxy) = quay().await;
    let bytes = layer(10_000, 17);
    let digest = registry.push_blob("a", bytes.clone());
    let gate = Gate::new();
    registry.script(BLOBS, Act::Wait(gate.clone()));
    let path = format!("/v2/a/blobs/{digest}");
    let patience = Duration::from_secs(40);
    let first =
        tokio::time::timeout(patience, proxy.client().get(QUAY, &path)).await.expect("within what clients wait");
    assert_eq!((first.status.as_u16(), first.header("retry-after")), (503, "5"));
    gate.open();
    let second = proxy.client().get(QUAY, &path).await;
    assert!(*second.bytes() == bytes);
    assert_eq!(registry.count(BLOBS), 1, "the same fill");
}

#[tokio::test]
async fn who_is_still_proving_its_right_when_the_fill_ends_does_not_have_it_fetched_again() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "").start().await;
    let digest = registry.push_blob("a", layer(300_000, 90));
    let (body, proof) = (Gate::new(), Gate::new());
    registry.script("GET */blobs/*", Act::Hold(100_000, body.clone()));
    registry.script("HEAD */blobs/*", Act::Wait(proof.clone()));
    let path = format!("/v2/a/blobs/{digest}");
    let ask = async |user: &str| {
        let authorization = basic_value(user, "secret");
        proxy.client().session(QUAY).await.ask("GET", &path, &[("authorization", &authorization)]).await
    };
    // Whether anybody may read it may be asked by HEAD just then, too.
    let bobs = basic_value("bob", "secret");
    let is_bobs = |seen: &Seen| seen.method == "HEAD" && seen.headers.get("authorization").is_some_and(|v| v == &bobs);
    let opening = async {
        eventually("the second asks by HEAD", || registry.requests().iter().any(is_bobs)).await;
        body.open();
        proxy.stored(&digest).await;
        proof.open();
    };
    let second = async {
        eventually("the first one's fill is under way", || registry.count("GET */blobs/*") == 1).await;
        ask("bob").await
    };
    let (first, second, ()) = tokio::join!(ask("alice"), second, opening);
    assert_eq!((first.bytes().len(), second.bytes().len()), (300_000, 300_000));
    assert_eq!(registry.count("GET */blobs/*"), 1);
}

#[tokio::test]
async fn who_proves_its_right_while_another_is_refused_is_not_told_the_others_no() {
    for tells_digest in [true, false] {
        let registry = Registry::start("quay.io");
        let proxy = Plan::new().registry(&registry, "").start().await;
        let digest = registry.push_blob("a", layer(300_000, 91));
        let (no, proof) = (Gate::new(), Gate::new());
        registry.script_times(1, "GET */blobs/*", Act::Wait(no.clone()));
        registry.script_times(1, "GET */blobs/*", Act::Status(403));
        registry.script("HEAD */blobs/*", Act::Wait(proof.clone()));
        if !tells_digest {
            registry.script("HEAD */blobs/*", Act::NoDigest);
        }
        let path = format!("/v2/a/blobs/{digest}");
        let ask = async |user: &str| {
            let authorization = basic_value(user, "secret");
            proxy.client().session(QUAY).await.ask("GET", &path, &[("authorization", &authorization)]).await
        };
        let bobs = basic_value("bob", "secret");
        let is_bobs =
            |seen: &Seen| seen.method == "HEAD" && seen.headers.get("authorization").is_some_and(|v| v == &bobs);
        let first = async {
            let refused = ask("alice").await;
            proof.open();
            refused
        };
        let second = async {
            eventually("the first one's fill is under way", || registry.count("GET */blobs/*") == 1).await;
            ask("bob").await
        };
        let refusal = async {
            eventually("the second asks by HEAD", || registry.requests().iter().any(is_bobs)).await;
            no.open();
        };
        let (first, second, ()) = tokio::join!(first, second, refusal);
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (403, 200), "digest: {tells_digest}");
        assert_eq!(second.bytes().len(), 300_000);
    }
}
