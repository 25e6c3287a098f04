//! Tags: fresh, revalidated by HEAD, and their last known answer when the registry is silent.

use super::{QUAY, get, quay};
use crate::support::{Act, MANIFEST, Plan, Registry, until};

const TAG: &str = "/v2/a/manifests/1";

fn manifest(version: u32) -> String {
    format!(r#"{{"schemaVersion":2,"layers":[],"version":{version}}}"#)
}

async fn with_tags(tags: &str) -> (Registry, crate::support::Proxy) {
    let registry = Registry::start("registry.example.com");
    let proxy = Plan::new().registry(&registry, &format!("tags: {tags}")).start().await;
    registry.push_manifest("a", Some("1"), MANIFEST, manifest(1));
    (registry, proxy)
}

const EXAMPLE: &str = "registry.example.com:443";

#[tokio::test]
async fn a_preset_believes_a_tag_for_a_minute_without_asking() {
    let (registry, proxy) = quay().await;
    registry.push_manifest("a", Some("1"), MANIFEST, manifest(1));
    let first = proxy.client().get(QUAY, TAG).await;
    assert_eq!(first.header("cache-status"), "pullthrough; fwd=uri-miss; stored");
    registry.push_manifest("a", Some("1"), MANIFEST, manifest(2));
    for method in ["GET", "HEAD"] {
        let again = proxy.client().session(QUAY).await.ask(method, TAG, &[]).await;
        assert_eq!(again.header("docker-content-digest"), first.header("docker-content-digest"));
        assert_eq!(again.header("cache-status"), "pullthrough; hit");
        assert!(again.header("age").parse::<u64>().unwrap() < 60, "{}", again.header("age"));
    }
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn a_tag_moved_upstream_is_seen_once_it_is_not_fresh_any_more() {
    let (registry, proxy) = with_tags("{fresh_for: 0s}").await;
    proxy.client().get(EXAMPLE, TAG).await;
    let unchanged = proxy.client().get(EXAMPLE, TAG).await;
    assert_eq!(unchanged.header("cache-status"), "pullthrough; fwd=stale; fwd-status=200");
    assert_eq!((registry.count("GET *"), registry.count("HEAD *")), (1, 1), "revalidated by HEAD, nothing fetched");
    let moved = registry.push_manifest("a", Some("1"), MANIFEST, manifest(2));
    let changed = proxy.client().get(EXAMPLE, TAG).await;
    assert_eq!(changed.header("docker-content-digest"), moved.to_string());
    assert_eq!(changed.bytes(), &manifest(2));
    assert_eq!((registry.count("GET *"), registry.count("HEAD *")), (2, 2));
}

#[tokio::test]
async fn a_rule_gives_some_tags_another_freshness() {
    let (registry, proxy) = with_tags(r"{fresh_for: 0s, rules: [{match: '^v\d+$', fresh_for: 30d}]}").await;
    registry.push_manifest("a", Some("v7"), MANIFEST, manifest(7));
    for _ in 0..3 {
        proxy.client().get(EXAMPLE, "/v2/a/manifests/v7").await;
        proxy.client().get(EXAMPLE, TAG).await;
    }
    assert_eq!((registry.count("* */v7"), registry.count("GET */v7")), (0, 1));
    assert_eq!(registry.count("HEAD */v7"), 0);
    assert_eq!(registry.count("HEAD */manifests/1"), 2);
}

#[tokio::test]
async fn head_of_a_cold_tag_downloads_nothing() {
    let (registry, proxy) = with_tags("{fresh_for: 60s}").await;
    let mut session = proxy.client().session(EXAMPLE).await;
    let head = session.ask("HEAD", TAG, &[]).await;
    assert_eq!((head.status.as_u16(), head.header("content-type")), (200, MANIFEST));
    assert_eq!(head.header("content-length"), manifest(1).len().to_string());
    assert!(head.header("docker-content-digest").starts_with("sha256:"));
    assert_eq!((registry.count("HEAD *"), registry.count("GET *")), (1, 0));
    let body = session.get(TAG).await;
    assert_eq!(body.bytes(), &manifest(1));
    assert_eq!((registry.count("HEAD *"), registry.count("GET *")), (1, 1), "the digest is known; one GET fetches it");
}

#[tokio::test]
async fn a_dead_registry_is_answered_for_by_the_last_known_answer() {
    let (mut registry, proxy) = with_tags("{fresh_for: 0s}").await;
    let first = proxy.client().get(EXAMPLE, TAG).await;
    registry.stop();
    for accept in
        ["*/*", MANIFEST, "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"]
    {
        let stale = get(&mut proxy.client().session(EXAMPLE).await, TAG, &[("accept", accept)]).await;
        assert_eq!((stale.status.as_u16(), stale.bytes()), (200, first.bytes()), "{accept}");
        assert_eq!(stale.header("cache-status"), "pullthrough; hit; detail=stale-if-error");
        assert!(stale.header("warning").starts_with("299 "));
        assert!(!stale.header("age").is_empty());
    }
    let foreign =
        get(&mut proxy.client().session(EXAMPLE).await, TAG, &[("accept", "application/vnd.oci.image.index.v1+json")])
            .await;
    assert_eq!(foreign.status, 401, "an answer of a type that the client does not take is no answer");
    assert!(foreign.header("www-authenticate").contains("/v2/_pullthrough/token"), "a right may have been proven");
    registry.start_again();
    let moved = registry.push_manifest("a", Some("1"), MANIFEST, manifest(2));
    until("it is noticed that the registry is back", async || {
        proxy.client().get(EXAMPLE, TAG).await.header("docker-content-digest") == moved.to_string()
    })
    .await;
}

#[tokio::test]
async fn a_silent_registry_costs_one_deadline_and_the_asking_goes_on_behind() {
    let (registry, proxy) = with_tags("{fresh_for: 0s, deadline: 300ms}").await;
    proxy.client().get(EXAMPLE, TAG).await;
    let silence = registry.script("*", Act::Silence);
    let stale = proxy.client().get(EXAMPLE, TAG).await;
    assert_eq!(stale.header("cache-status"), "pullthrough; hit; detail=stale-if-error");
    registry.unscript(silence);
}

#[tokio::test]
async fn errors_and_throttles_are_covered_by_the_last_known_answer_and_refusals_are_not() {
    let (registry, proxy) = with_tags("{fresh_for: 0s}").await;
    proxy.client().get(EXAMPLE, TAG).await;
    for (status, expected) in [(429, 200), (500, 200), (503, 200), (401, 401), (403, 403)] {
        let line = registry.script("*/manifests/*", Act::Status(status));
        let answer = proxy.client().get(EXAMPLE, TAG).await;
        assert_eq!(answer.status, expected, "{status}");
        registry.unscript(line);
    }
    registry.remove("a", "1");
    assert_eq!(proxy.client().get(EXAMPLE, TAG).await.status, 404, "a deleted tag is gone");
    let line = registry.script("*/manifests/*", Act::Status(503));
    assert_eq!(proxy.client().get(EXAMPLE, TAG).await.status, 503, "no last answer is left, and no 404 is remembered");
    registry.unscript(line);
}

#[tokio::test]
async fn what_was_just_pushed_is_pulled_at_once_where_a_tag_is_fresh_for_no_time() {
    let (registry, proxy) = with_tags("{fresh_for: 0s, rules: [{match: '^v', fresh_for: 30d}]}").await;
    let layer = super::layer(1000, 7);
    let digest = pullthrough::oci::Digest::of(pullthrough::oci::Algorithm::Sha256, &layer);
    let bytes = manifest(7);
    let by_digest = pullthrough::oci::Digest::of(pullthrough::oci::Algorithm::Sha256, bytes.as_bytes());
    let paths = [
        "/v2/new/app/manifests/build-7".to_owned(),
        "/v2/new/app/manifests/v7".to_owned(),
        format!("/v2/new/app/manifests/{by_digest}"),
        format!("/v2/new/app/blobs/{digest}"),
    ];
    for path in &paths {
        for method in ["HEAD", "GET"] {
            assert_eq!(get_as(&proxy, method, path).await, 404, "{method} {path}");
        }
    }
    registry.push_blob("new/app", layer);
    for tag in ["build-7", "v7"] {
        registry.push_manifest("new/app", Some(tag), MANIFEST, bytes.clone());
    }
    for path in &paths {
        for method in ["HEAD", "GET"] {
            assert_eq!(get_as(&proxy, method, path).await, 200, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_404_is_remembered_for_seconds_where_a_tag_is_fresh_for_longer() {
    let (registry, proxy) = with_tags("{fresh_for: 1m}").await;
    for _ in 0..3 {
        assert_eq!(get_as(&proxy, "GET", "/v2/a/manifests/none").await, 404);
    }
    assert_eq!(registry.requests().len(), 1);
}

async fn get_as(proxy: &crate::support::Proxy, method: &str, path: &str) -> u16 {
    proxy.client().session(EXAMPLE).await.ask(method, path, &[]).await.status.as_u16()
}

#[tokio::test]
async fn without_a_last_known_answer_every_status_reaches_the_client_as_it_was() {
    for status in [401, 403, 404, 429, 500, 503] {
        let (registry, proxy) = with_tags("{fresh_for: 0s}").await;
        registry.script("*/manifests/*", Act::Status(status));
        registry.script("*/manifests/*", Act::Header("retry-after".into(), "70".into()));
        registry.script("*/manifests/*", Act::Header("www-authenticate".into(), "Bearer realm=\"x\"".into()));
        let answer = proxy.client().get(EXAMPLE, TAG).await;
        assert_eq!(answer.status, status);
        assert_eq!((answer.header("retry-after"), answer.header("www-authenticate")), ("70", "Bearer realm=\"x\""));
        assert!(String::from_utf8_lossy(answer.bytes()).contains("errors"), "the registry's own body");
    }
}

#[tokio::test]
async fn a_registry_that_says_no_digest_or_has_no_head_is_asked_by_get() {
    for act in [Act::NoDigest, Act::NoHead] {
        let (registry, proxy) = with_tags("{fresh_for: 0s}").await;
        registry.script("*/manifests/*", act.clone());
        for _ in 0..2 {
            let answer = proxy.client().get(EXAMPLE, TAG).await;
            assert_eq!(
                (answer.status.as_u16(), answer.bytes()[..].to_vec()),
                (200, manifest(1).into_bytes()),
                "{act:?}"
            );
        }
        registry.push_manifest("a", Some("1"), MANIFEST, manifest(2));
        let moved = proxy.client().get(EXAMPLE, TAG).await;
        assert_eq!(moved.bytes(), &manifest(2), "{act:?}");
    }
}

#[tokio::test]
async fn tags_and_links_outlive_a_restart() {
    let (mut registry, mut proxy) = with_tags("{fresh_for: 1h}").await;
    let first = proxy.client().get(EXAMPLE, TAG).await;
    registry.stop();
    proxy.restart().await;
    let again = proxy.client().get(EXAMPLE, TAG).await;
    assert_eq!((again.status.as_u16(), again.bytes()), (200, first.bytes()));
    assert_eq!(again.header("cache-status"), "pullthrough; hit");
}
