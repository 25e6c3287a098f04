//! A private image through a mirror: one who may read gets it, and nobody else, whatever the cache holds.

use super::{ALONE, Lab, Name, paths};
use crate::support::{Image, basic_value, until};

const SETTINGS: &str = "tags: {fresh_for: 0s, deadline: 2s}";

/// Every way to ask for an image, with the status of each.
async fn all_ways(lab: &Lab, image: &Image, authorization: Option<&str>) -> Vec<u16> {
    let mut session = lab.session(ALONE).await;
    let mut found = Vec::new();
    for path in paths(Name::Alone, "alice/app", image) {
        for (method, range) in [("HEAD", None), ("GET", None), ("GET", Some("bytes=5-9"))] {
            let headers: Vec<(&str, &str)> = [("authorization", authorization), ("range", range)]
                .into_iter()
                .filter_map(|(n, v)| Some((n, v?)))
                .collect();
            found.push(session.ask(method, &path, &headers).await.status.as_u16());
        }
    }
    found
}

fn is_yes(found: &[u16]) -> bool {
    found.iter().all(|status| matches!(status, 200 | 206))
}

fn is_no(found: &[u16]) -> bool {
    found.iter().all(|status| matches!(status, 401 | 403 | 404 | 503))
}

#[tokio::test]
async fn who_may_read_it_gets_it_and_nobody_else_also_of_the_cache_in_an_outage_and_after_a_restart() {
    let mut lab = Lab::with_tokens(SETTINGS, "").await;
    let image = lab.registry.push_image("alice/app", "1", &[vec![1; 50_000], vec![2; 1000]]);
    let scope = "repository:alice/app:pull";
    let (alice, bob) = (basic_value("alice", "secret-a"), basic_value("bob", "secret-b"));
    for round in ["cold", "cached", "restarted"] {
        if round == "restarted" {
            lab.proxy.restart().await;
        }
        let hers = lab.token(ALONE, scope, Some(&alice)).await.unwrap();
        let his = lab.token(ALONE, scope, Some(&bob)).await.unwrap();
        let nobodys = lab.token(ALONE, scope, None).await.unwrap();
        for other in [None, Some(&*his), Some(&*nobodys), Some("Bearer made-up")] {
            let found = all_ways(&lab, &image, other).await;
            assert!(is_no(&found), "{round} {other:?}: {found:?}");
        }
        let found = all_ways(&lab, &image, Some(&hers)).await;
        assert!(is_yes(&found), "{round}: {found:?}");
        for digest in image.layers.iter().chain([&image.config, &image.digest]) {
            lab.proxy.stored(digest).await;
        }
        for other in [None, Some(&*his), Some(&*nobodys)] {
            let found = all_ways(&lab, &image, other).await;
            assert!(is_no(&found), "{round} {other:?}, cached: {found:?}");
        }
    }
    lab.registry.stop();
    until("the outage is known", async || {
        lab.ask(ALONE, "GET", "/v2/alice/app/manifests/none", None).await.header("warning").contains("unreachable")
    })
    .await;
    let refused = lab.ask(ALONE, "GET", "/v2/alice/app/manifests/1", None).await;
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate");
    let expected =
        format!("Bearer realm=\"http://{ALONE}/v2/_pullthrough/token\",service=\"{ALONE}\",scope=\"{scope}\"");
    assert_eq!(challenge, expected, "the challenge of an outage names the mirror");
    let hers = lab.token(ALONE, scope, Some(&alice)).await.unwrap();
    let found = all_ways(&lab, &image, Some(&hers)).await;
    assert!(is_yes(&found), "away: {found:?}");
    let wrong = lab.token(ALONE, scope, Some(&basic_value("alice", "wrong"))).await.unwrap();
    let his = lab.token(ALONE, scope, Some(&bob)).await.unwrap();
    let nobodys = lab.token(ALONE, scope, None).await.unwrap();
    for other in [None, Some(&*his), Some(&*nobodys), Some(&*wrong)] {
        let found = all_ways(&lab, &image, other).await;
        assert!(is_no(&found), "away, {other:?}: {found:?}");
    }
}

#[tokio::test]
async fn a_token_of_one_name_opens_nothing_by_another() {
    let lab = Lab::with_tokens("", "").await;
    let image = lab.registry.push_image("alice/app", "1", &[vec![1; 5000]]);
    let scope = "repository:alice/app:pull";
    let hers = lab.token(ALONE, scope, Some(&basic_value("alice", "secret-a"))).await.unwrap();
    assert!(is_yes(&all_ways(&lab, &image, Some(&hers)).await));
    for name in super::NAMES.into_iter().filter(|name| *name != Name::Alone) {
        for path in paths(name, "alice/app", &image) {
            let found = lab.ask(name.host(), "GET", &path, Some(&hers)).await.status.as_u16();
            let expected = if name == Name::Group { 404 } else { 401 };
            assert_eq!(found, expected, "{name:?} {path}");
        }
    }
    let nobodys = lab.token(super::MIRROR, scope, Some(&basic_value("alice", "secret-a"))).await.unwrap();
    let found = all_ways(&lab, &image, Some(&nobodys)).await;
    assert!(is_no(&found), "a token for nobody at a name that stands for several: {found:?}");
}

#[tokio::test]
async fn one_pull_secret_of_many_nodes_is_one_proof() {
    let lab = Lab::with_tokens("tags: {fresh_for: 1h}", "").await;
    let image = lab.registry.push_image("alice/app", "1", &[vec![1; 5000]]);
    let alice = basic_value("alice", "secret-a");
    let path = format!("/v2/alice/app/blobs/{}", image.layers[0]);
    let scope = "repository:alice/app:pull";
    let first = lab.token(ALONE, scope, Some(&alice)).await.unwrap();
    assert_eq!(lab.ask(ALONE, "GET", &path, Some(&first)).await.status, 200);
    lab.proxy.stored(&image.layers[0]).await;
    let proofs = |lab: &Lab| {
        let is_hers = |value: &http::HeaderValue| value.to_str().is_ok_and(|value| value.starts_with("Bearer token-"));
        let seen = lab.registry.requests().into_iter().filter(|seen| seen.path == path);
        seen.filter(|seen| seen.headers.get("authorization").is_some_and(is_hers) && seen.status == Some(200)).count()
    };
    let asked = proofs(&lab);
    for node in 0..3 {
        // A load balancer's and a tracer's fields make nobody another one.
        let headers = [("authorization", &*alice), ("x-forwarded-for", "10.0.0.1"), ("traceparent", "00-1-1-01")];
        let token = format!("/v2/_pullthrough/token?service={ALONE}&scope={scope}&account=alice&client_id=node-{node}");
        let answer = lab.session(ALONE).await.ask("GET", &token, &headers).await;
        let bearer = super::bearer_of(&answer);
        assert_eq!(lab.ask(ALONE, "GET", &path, Some(&bearer)).await.status, 200);
    }
    assert_eq!(proofs(&lab), asked);
}
