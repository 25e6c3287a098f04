//! Referrers: passed on while the registry answers, and the last list in an outage or a throttle, to whoever may read.

use serde_json::json;

use super::layer;
use crate::support::client::Whole;
use crate::support::{Act, INDEX, Image, Plan, Proxy, Registry, basic_value, until};

const EXAMPLE: &str = "registry.example.com:443";

fn index(artifact: &str) -> String {
    let digest = format!("sha256:{}", "a".repeat(64));
    let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 7, "artifactType": artifact});
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string()
}

fn list(artifact: &str, more: &[(&str, &str)]) -> Act {
    let headers = [("content-type", INDEX)].iter().chain(more);
    let headers = headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Act::Answer { status: 200, headers, body: index(artifact) }
}

async fn lab(tags: &str) -> (Registry, Image, Proxy) {
    let registry = Registry::start("registry.example.com");
    let image = registry.push_image("team/app", "1", &[layer(1000, 1)]);
    let proxy = Plan::new().registry(&registry, &format!("tags: {tags}")).start().await;
    (registry, image, proxy)
}

async fn ask(proxy: &Proxy, path: &str, authorization: Option<&str>) -> Whole {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    proxy.client().session(EXAMPLE).await.ask("GET", path, &headers).await
}

fn is_last_known(answer: &Whole, artifact: &str) -> bool {
    let is_stale = answer.header("cache-status") == "pullthrough; hit; detail=stale-if-error";
    let is_marked = answer.header("warning").starts_with("299 ") && !answer.header("age").is_empty();
    answer.status == 200 && is_stale && is_marked && answer.bytes() == &index(artifact)
}

#[tokio::test]
async fn the_last_list_of_each_query_covers_throttles_faults_and_silence() {
    let (registry, image, proxy) = lab("{deadline: 500ms}").await;
    assert_eq!(ask(&proxy, "/v2/team/app/manifests/1", None).await.status, 200, "so that it is known to be public");
    let base = format!("/v2/team/app/referrers/{}", image.digest);
    let (signatures, page) = (format!("{base}?artifactType=sig"), format!("{base}?artifactType=sig&last=x"));
    for (path, artifact, more) in [
        (&base, "all", vec![]),
        (&signatures, "sig", vec![("oci-filters-applied", "artifactType"), ("link", "</v2/x?last=x>; rel=\"next\"")]),
        (&page, "page", vec![]),
    ] {
        let line = registry.script("GET */referrers/*", list(artifact, &more));
        let answer = ask(&proxy, path, None).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.bytes(), &index(artifact));
        assert_eq!(answer.header("cache-status"), "pullthrough; fwd=bypass");
        registry.unscript(line);
    }
    assert_eq!(registry.count("GET */referrers/*"), 3);
    let never = format!("{base}?artifactType=never");
    for act in [Act::Status(429), Act::Status(500), Act::Status(503), Act::Reset, Act::Silence] {
        let line = registry.script("*/referrers/*", act.clone());
        for (path, artifact) in [(&base, "all"), (&signatures, "sig"), (&page, "page")] {
            assert!(is_last_known(&ask(&proxy, path, None).await, artifact), "{act:?} {path}");
        }
        let filtered = ask(&proxy, &signatures, None).await;
        assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
        assert_eq!((filtered.header("link"), filtered.header("content-type")), ("</v2/x?last=x>; rel=\"next\"", INDEX));
        if !matches!(act, Act::Silence) {
            let unknown = ask(&proxy, &never, None).await;
            assert!(unknown.status.as_u16() >= 429, "{act:?}: no list is invented: {}", unknown.status);
        }
        registry.unscript(line);
    }
    registry.script("*/referrers/*", list("new", &[]));
    until("the registry is asked again", async || ask(&proxy, &base, None).await.bytes() == &index("new")).await;
}

#[tokio::test]
async fn the_last_list_is_served_while_the_registry_is_away_and_none_where_there_was_none() {
    let (mut registry, image, proxy) = lab("{fresh_for: 1h}").await;
    assert_eq!(ask(&proxy, "/v2/team/app/manifests/1", None).await.status, 200);
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    registry.script("GET */referrers/*", list("sig", &[]));
    assert_eq!(ask(&proxy, &path, None).await.status, 200);
    registry.stop();
    for _ in 0..3 {
        assert!(is_last_known(&ask(&proxy, &path, None).await, "sig"));
    }
    let other = ask(&proxy, &format!("{path}?artifactType=x"), None).await;
    assert!(other.status.is_server_error(), "{}", other.status);
}

#[tokio::test]
async fn a_list_that_a_token_in_another_field_has_earned_is_kept_for_nobody() {
    let (registry, image, proxy) = lab("{fresh_for: 1h}").await;
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    for (field, value) in [("x-jfrog-art-api", "k"), ("private-token", "k"), ("cookie", "session=k")] {
        let line = registry.script("GET */referrers/*", list("secret", &[]));
        let told = proxy.client().session(EXAMPLE).await.ask("GET", &path, &[(field, value)]).await;
        assert_eq!(told.status, 200, "{field}");
        registry.unscript(line);
        let line = registry.script("*/referrers/*", Act::Status(503));
        let stranger = ask(&proxy, &path, None).await;
        assert_eq!(stranger.status, 503, "{field}");
        registry.unscript(line);
    }
}

#[tokio::test]
async fn a_404_passes_as_one_and_is_what_is_known_from_then_on() {
    let (registry, image, proxy) = lab("{fresh_for: 1h}").await;
    assert_eq!(ask(&proxy, "/v2/team/app/manifests/1", None).await.status, 200);
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    let line = registry.script("GET */referrers/*", list("sig", &[]));
    assert_eq!(ask(&proxy, &path, None).await.status, 200);
    registry.unscript(line);
    let line = registry.script("*/referrers/*", Act::Status(404));
    assert_eq!(ask(&proxy, &path, None).await.status, 404);
    registry.unscript(line);
    registry.script("*/referrers/*", Act::Status(503));
    let answer = ask(&proxy, &path, None).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-status")), (404, "pullthrough; hit"), "a moment ago");
    // The registry is asked again after that; what it said last is said in its place.
    let credentials = basic_value("alice", "secret");
    assert_eq!(ask(&proxy, &path, Some(&credentials)).await.status, 503, "it was not said to her");
}

#[tokio::test]
async fn what_is_no_list_is_passed_on_and_not_kept() {
    let (registry, image, proxy) = lab("{fresh_for: 1h}").await;
    assert_eq!(ask(&proxy, "/v2/team/app/manifests/1", None).await.status, 200);
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    for body in ["<html>log in</html>", "{}", "[]", ""] {
        let headers = vec![("content-type".to_owned(), INDEX.to_owned())];
        let line = registry.script("*/referrers/*", Act::Answer { status: 200, headers, body: body.into() });
        let answer = ask(&proxy, &path, None).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.bytes(), body);
        registry.unscript(line);
        let line = registry.script("*/referrers/*", Act::Status(503));
        assert_eq!(ask(&proxy, &path, None).await.status, 503, "{body}");
        registry.unscript(line);
    }
}

#[tokio::test]
async fn a_private_list_is_served_to_those_who_may_read_and_to_nobody_else() {
    let registry = Registry::start("registry.example.com");
    let image = registry.push_image("team/app", "1", &[layer(1000, 1)]);
    registry.require_basic("alice", "secret");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
    let (alice, mallory) = (basic_value("alice", "secret"), basic_value("mallory", "guess"));
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    assert_eq!(ask(&proxy, "/v2/team/app/manifests/1", Some(&alice)).await.status, 200);
    let line = registry.script("GET */referrers/*", Act::Unless("never".into(), Box::new(list("sig", &[]))));
    assert_eq!(ask(&proxy, &path, Some(&alice)).await.bytes(), &index("sig"));
    registry.unscript(line);
    registry.script("*/referrers/*", Act::Unless("never".into(), Box::new(Act::Status(503))));
    assert!(is_last_known(&ask(&proxy, &path, Some(&alice)).await, "sig"));
    for stranger in [Some(mallory.as_str()), None] {
        let answer = ask(&proxy, &path, stranger).await;
        assert_eq!(answer.status, 503, "{stranger:?}");
        assert!(!String::from_utf8_lossy(answer.bytes()).contains("sig"), "{stranger:?}");
    }
}

#[tokio::test]
async fn whoever_was_told_a_list_is_told_it_again_without_having_pulled() {
    let (mut registry, image, proxy) = lab("{fresh_for: 1h}").await;
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    registry.script("GET */referrers/*", list("sig", &[]));
    assert_eq!(ask(&proxy, &path, None).await.status, 200);
    registry.stop();
    assert!(is_last_known(&ask(&proxy, &path, None).await, "sig"));
    let stranger = ask(&proxy, &path, Some(&basic_value("mallory", "guess"))).await;
    assert!(stranger.status.is_server_error(), "{}", stranger.status);
}

#[tokio::test]
async fn what_other_callers_are_told_of_a_private_repository_is_told_to_no_reader() {
    let registry = Registry::start("registry.example.com");
    let image = registry.push_image("team/app", "1", &[layer(1000, 1)]);
    let alice = basic_value("alice", "secret");
    registry.script("*/manifests/*", Act::Unless(alice.clone(), Box::new(Act::Status(404))));
    registry.script("*/blobs/*", Act::Unless(alice.clone(), Box::new(Act::Status(404))));
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    assert_eq!(ask(&proxy, "/v2/team/app/manifests/1", Some(&alice)).await.status, 200);
    let line = registry.script("*/referrers/*", list("sig", &[]));
    assert_eq!(ask(&proxy, &path, Some(&alice)).await.status, 200);
    registry.unscript(line);
    // Some registries hide what is private behind an empty list.
    let line = registry.script("*/referrers/*", list("hidden", &[]));
    assert_eq!(ask(&proxy, &path, None).await.bytes(), &index("hidden"));
    registry.unscript(line);
    registry.script("*/referrers/*", Act::Status(503));
    assert!(is_last_known(&ask(&proxy, &path, Some(&alice)).await, "sig"));
    assert!(is_last_known(&ask(&proxy, &path, None).await, "hidden"));
}
