//! Lists of tags: passed exactly while the registry answers; the last one of each query in an outage and after a restart,
//! to whoever may read. What is not there is remembered for those without credentials, so that signatures are checked cheaply.

use serde_json::json;

use super::layer;
use super::private::{ALICE, BOB, Lab};
use crate::support::client::Whole;
use crate::support::{Act, MANIFEST, Plan, Proxy, Registry, basic_value, until};

const EXAMPLE: &str = "registry.example.com:443";
const TAGS: &str = "/v2/team/app/tags/list";

fn answer(status: u16, link: &str, body: &str) -> Act {
    let headers = [("content-type", "application/json"), ("link", link)];
    let headers = headers.iter().filter(|(_, value)| !value.is_empty());
    let headers = headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Act::Answer { status, headers, body: body.to_owned() }
}

fn tags(names: &[&str], link: &str) -> Act {
    answer(200, link, &json!({"name": "team/app", "tags": names}).to_string())
}

async fn ask(proxy: &Proxy, method: &str, path: &str, authorization: Option<&str>) -> Whole {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    proxy.client().session(EXAMPLE).await.ask(method, path, &headers).await
}

fn is_last_known(answer: &Whole) -> bool {
    let is_stale = answer.header("cache-status") == "pullthrough; hit; detail=stale-if-error";
    answer.status == 200 && is_stale && answer.header("warning").starts_with("299 ") && !answer.header("age").is_empty()
}

/// A registry with a public image, and a proxy that knows that it is public.
async fn public(keys: &str) -> (Registry, String, Proxy) {
    let registry = Registry::start("registry.example.com");
    let image = registry.push_image("team/app", "1", &[layer(1000, 1)]);
    let proxy = Plan::new().registry(&registry, keys).start().await;
    assert_eq!(ask(&proxy, "GET", "/v2/team/app/manifests/1", None).await.status, 200);
    (registry, image.digest.to_string(), proxy)
}

#[tokio::test]
async fn a_list_of_tags_passes_with_its_query_its_link_and_its_status() {
    let (registry, _, proxy) = public("").await;
    let table = [
        ("", "", 200, r#"{"name":"team/app","tags":["a","b"]}"#, ""),
        (
            "?n=2",
            "n=2",
            200,
            r#"{"name":"team/app","tags":["a","b"]}"#,
            "</v2/team/app/tags/list?last=b&n=2>; rel=\"next\"",
        ),
        ("?n=2&last=b", "n=2&last=b", 200, r#"{"name":"team/app","tags":["c"]}"#, ""),
        ("?n=0", "n=0", 200, r#"{"name":"team/app","tags":[]}"#, ""),
        ("?n=garbage", "n=garbage", 400, r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}"#, ""),
        ("?n=-1", "n=-1", 400, "", ""),
        ("?last=%61%2fb%26c", "last=a%2Fb%26c", 200, r#"{"name":"team/app","tags":null}"#, ""),
        ("?last=x+y", "last=x+y", 200, "{ \"name\" : \"team/app\" , \"tags\" : [ ] }\n", ""),
        (
            "?next_page=t%3D&n=1",
            "next_page=t%3D&n=1",
            200,
            r#"{"name":"team/app","tags":["a"]}"#,
            "<https://registry.example.com/v2/team/app/tags/list?next_page=u>; rel=next",
        ),
    ];
    for client in [proxy.client(), proxy.client().h2()] {
        for (query, sent, status, body, link) in table {
            let line = registry.script("*/tags/list", answer(status, link, body));
            registry.forget();
            let answer = client.session(EXAMPLE).await.ask("GET", &format!("{TAGS}{query}"), &[]).await;
            assert_eq!((answer.status.as_u16(), answer.header("link")), (status, link), "{query}");
            assert_eq!(answer.bytes(), body, "{query}");
            let seen = registry.requests();
            assert_eq!(seen.iter().map(|seen| seen.query.as_str()).collect::<Vec<_>>(), [sent], "{query}");
            let head = client.session(EXAMPLE).await.ask("HEAD", &format!("{TAGS}{query}"), &[]).await;
            assert_eq!(
                (head.status.as_u16(), head.header("content-length")),
                (status, body.len().to_string().as_str())
            );
            registry.unscript(line);
        }
    }
}

#[tokio::test]
async fn the_last_list_of_tags_of_each_query_is_served_in_an_outage_and_after_a_restart_and_none_is_invented() {
    let (mut registry, _, mut proxy) = public("tags: {fresh_for: 1h, deadline: 1s}").await;
    let page = format!("{TAGS}?n=1");
    let next = "</v2/team/app/tags/list?n=1&last=a>; rel=\"next\"";
    for (path, names, link) in [(TAGS, &["a", "b"][..], ""), (page.as_str(), &["a"], next)] {
        let line = registry.script("GET */tags/list", tags(names, link));
        assert_eq!(ask(&proxy, "GET", path, None).await.status, 200);
        registry.unscript(line);
    }
    for act in [Act::Status(429), Act::Status(503), Act::Reset, Act::Silence] {
        let line = registry.script("*/tags/list", act.clone());
        assert!(is_last_known(&ask(&proxy, "GET", TAGS, None).await), "{act:?}");
        registry.unscript(line);
    }
    registry.stop();
    for restarts in 0..2 {
        let all = ask(&proxy, "GET", TAGS, None).await;
        assert!(is_last_known(&all), "{restarts}: {all:?}");
        assert_eq!(all.bytes(), r#"{"name":"team/app","tags":["a","b"]}"#);
        let first = ask(&proxy, "GET", &page, None).await;
        assert!(is_last_known(&first), "{restarts}: {first:?}");
        assert_eq!((first.header("link"), first.header("content-type")), (next, "application/json"));
        let head = ask(&proxy, "HEAD", TAGS, None).await;
        assert!(is_last_known(&head) && head.header("content-length") == all.bytes().len().to_string(), "{head:?}");
        let unknown = ask(&proxy, "GET", "/v2/team/app/tags/list?n=2", None).await;
        assert_eq!(unknown.status, 503, "{restarts}: no page is made of another");
        let other = ask(&proxy, "GET", "/v2/team/other/tags/list", None).await;
        assert!(matches!(other.status.as_u16(), 401 | 503), "{restarts}: {other:?}");
        proxy.restart().await;
    }
}

#[tokio::test]
async fn a_page_under_the_name_of_a_list_is_passed_on_and_not_kept() {
    let (registry, _, proxy) = public("tags: {fresh_for: 1h}").await;
    for body in ["<html>log in</html>", "{}", "[]", "", r#"{"tags":["a"]}"#, r#"{"name":"team/app","tags":[1]}"#] {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let line = registry.script("*/tags/list", Act::Answer { status: 200, headers, body: body.into() });
        assert_eq!(ask(&proxy, "GET", TAGS, None).await.bytes(), body);
        registry.unscript(line);
        let line = registry.script("*/tags/list", Act::Status(503));
        assert_eq!(ask(&proxy, "GET", TAGS, None).await.status, 503, "{body}");
        registry.unscript(line);
    }
}

#[tokio::test]
async fn a_private_list_of_tags_leaks_to_nobody_in_an_outage_nor_after_a_restart() {
    let mut lab = Lab::new("").await;
    lab.registry.push_image("team/app", "1", &[layer(1000, 1)]);
    let (alice, bob) = (lab.bearer(ALICE, "team/app").await, lab.bearer(BOB, "team/app").await);
    let referrers = format!("/v2/team/app/referrers/sha256:{}", "a".repeat(64));
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
    assert_eq!(lab.get("/v2/team/app/manifests/1", Some(&alice)).await.status, 200);
    let line = lab.registry.script(
        "*/referrers/*",
        Act::Unless(
            "Bearer none".into(),
            Box::new(Act::Answer { status: 200, headers: vec![], body: index.to_string() }),
        ),
    );
    let paths = [TAGS, referrers.as_str()];
    for path in paths {
        assert_eq!(lab.get(path, Some(&alice)).await.status, 200, "{path}");
        if path == TAGS {
            assert_eq!(lab.get(path, Some(&bob)).await.status, 401);
        }
    }
    lab.registry.unscript(line);
    lab.registry.stop();
    for path in paths {
        assert!(is_last_known(&lab.get(path, Some(&alice)).await), "{path}");
        for (who, other) in [("bob", Some(bob.as_str())), ("nobody", None), ("a guess", Some("Bearer guess"))] {
            let answer = lab.get(path, other).await;
            assert!(matches!(answer.status.as_u16(), 401 | 503), "{path}: {who}: {}", answer.status);
            assert!(!String::from_utf8_lossy(answer.bytes()).contains("manifests\":"), "{path}: {who}");
        }
        let challenge = lab.get(path, None).await;
        assert!(challenge.header("www-authenticate").contains("/v2/_pullthrough/token"), "{path}: {challenge:?}");
    }
    lab.proxy.restart().await;
    for path in paths {
        for (who, other) in [("alice", Some(alice.as_str())), ("bob", Some(bob.as_str())), ("nobody", None)] {
            let answer = lab.get(path, other).await;
            assert!(matches!(answer.status.as_u16(), 401 | 503), "{path}: {who} after a restart: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn a_list_from_before_a_restart_is_for_whoever_proves_a_right_now() {
    let registry = Registry::start("registry.example.com");
    registry.push_image("team/app", "1", &[layer(1000, 1)]);
    registry.require_basic("alice", "secret");
    let mut proxy = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
    let (alice, mallory) = (basic_value("alice", "secret"), basic_value("mallory", "guess"));
    assert_eq!(ask(&proxy, "GET", "/v2/team/app/manifests/1", Some(&alice)).await.status, 200);
    assert_eq!(ask(&proxy, "GET", TAGS, Some(&alice)).await.status, 200);
    proxy.restart().await;
    let line = registry.script("*/tags/list", Act::Unless("never".into(), Box::new(Act::Status(503))));
    assert_eq!(ask(&proxy, "GET", TAGS, Some(&alice)).await.status, 503, "no right is proven yet");
    assert_eq!(ask(&proxy, "GET", "/v2/team/app/manifests/1", Some(&alice)).await.status, 200);
    assert!(is_last_known(&ask(&proxy, "GET", TAGS, Some(&alice)).await));
    for other in [Some(mallory.as_str()), None] {
        assert_eq!(ask(&proxy, "GET", TAGS, other).await.status, 503, "{other:?}");
    }
    registry.unscript(line);
    // What the registry takes back is gone for good.
    let line = registry.script("*/tags/list", Act::Status(404));
    assert_eq!(ask(&proxy, "GET", TAGS, Some(&alice)).await.status, 404);
    registry.unscript(line);
    proxy.restart().await;
    assert_eq!(ask(&proxy, "GET", "/v2/team/app/manifests/1", Some(&alice)).await.status, 200);
    registry.script("*/tags/list", Act::Unless("never".into(), Box::new(Act::Status(503))));
    assert_eq!(ask(&proxy, "GET", TAGS, Some(&alice)).await.status, 503);
}

/// What a verifier of signatures asks for, in its order: the referrers, the tag of them, the tag of signatures, and that of
/// attestations.
async fn verify(proxy: &Proxy, digest: &str, authorization: Option<&str>) -> Vec<u16> {
    let attached = digest.replace(':', "-");
    let mut said = Vec::new();
    for path in [
        format!("/v2/team/app/referrers/{digest}"),
        format!("/v2/team/app/manifests/{attached}"),
        format!("/v2/team/app/manifests/{attached}.sig"),
        format!("/v2/team/app/manifests/{attached}.att"),
    ] {
        said.push(ask(proxy, "GET", &path, authorization).await.status.as_u16());
    }
    said
}

fn sign(registry: &Registry, digest: &str) {
    let tag = format!("{}.sig", digest.replace(':', "-"));
    registry.push_manifest("team/app", Some(&tag), MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    registry.script("*/referrers/*", Act::Status(404)); // it has no such endpoint
}

#[tokio::test]
async fn a_second_check_of_signatures_asks_upstream_nothing() {
    let (registry, digest, proxy) = public("tags: {fresh_for: 1h}").await;
    sign(&registry, &digest);
    assert_eq!(verify(&proxy, &digest, None).await, [404, 404, 200, 404]);
    let asked = registry.requests().len();
    for _ in 0..3 {
        assert_eq!(verify(&proxy, &digest, None).await, [404, 404, 200, 404]);
    }
    assert_eq!(registry.requests().len(), asked, "all that is known is remembered");
}

#[tokio::test]
async fn a_check_of_signatures_survives_an_outage() {
    // Nothing is remembered while the registry answers.
    let (mut registry, digest, proxy) = public("tags: {fresh_for: 0s, deadline: 1s}").await;
    sign(&registry, &digest);
    assert_eq!(verify(&proxy, &digest, None).await, [404, 404, 200, 404]);
    assert_eq!(ask(&proxy, "GET", "/v2/team/app/manifests/none", None).await.status, 404);
    registry.stop();
    until("it is away", async || ask(&proxy, "GET", "/v2/team/app/manifests/none", None).await.status != 404).await;
    assert_eq!(verify(&proxy, &digest, None).await, [404, 404, 200, 404]);
    let never = format!("sha256:{}", "c".repeat(64));
    let said = verify(&proxy, &never, None).await;
    assert!(said.iter().all(|status| matches!(status, 401 | 503)), "nothing is invented: {said:?}");
}

#[tokio::test]
async fn what_is_not_there_is_asked_again_by_whoever_has_credentials_and_where_tags_are_not_believed() {
    let registry = Registry::start("registry.example.com");
    let digest = registry.push_image("team/app", "1", &[layer(1000, 1)]).digest.to_string();
    sign(&registry, &digest);
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}").start().await;
    let alice = basic_value("alice", "secret");
    for asked in 1..=3 {
        assert_eq!(verify(&proxy, &digest, Some(&alice)).await, [404, 404, 200, 404]);
        assert_eq!(registry.count("GET */referrers/*"), asked);
    }
    let never = Plan::new().registry(&registry, "tags: {fresh_for: 0s}").start().await;
    registry.forget();
    for asked in 1..=3 {
        assert_eq!(verify(&never, &digest, None).await, [404, 404, 200, 404]);
        assert_eq!(registry.count("GET */referrers/*"), asked, "what is signed now is verified at once");
    }
}

#[tokio::test]
async fn callers_with_a_token_that_anybody_is_given_share_what_is_not_there() {
    let lab = Lab::new("").await;
    let digest = lab.registry.push_image("public/app", "1", &[layer(1000, 1)]).digest.to_string();
    let referrers = format!("/v2/public/app/referrers/{digest}");
    let signature = format!("/v2/public/app/manifests/{}.sig", digest.replace(':', "-"));
    lab.registry.script("*/referrers/*", Act::Status(404));
    let (one, two) = (lab.bearer(None, "public/app").await, lab.bearer(None, "public/app").await);
    assert_ne!(one, two);
    for token in [&one, &two, &one] {
        for path in [&referrers, &signature] {
            assert_eq!(lab.get(path, Some(token)).await.status, 404, "{path}");
        }
    }
    assert_eq!(lab.registry.count("GET */referrers/*"), 1);
    assert_eq!(lab.registry.count("*.sig"), 1);
    // It is a principal's own word to whoever has credentials, and not there for whoever has none.
    let alice = lab.bearer(ALICE, "public/app").await;
    assert_eq!(lab.get(&referrers, Some(&alice)).await.status, 404);
    assert_eq!(lab.registry.count("GET */referrers/*"), 2);
}

#[tokio::test]
async fn a_push_through_the_proxy_ends_what_was_not_there() {
    let (registry, digest, proxy) = public("tags: {fresh_for: 1h}, push: allow").await;
    let (path, tag) = (format!("/v2/team/app/referrers/{digest}"), digest.replace(':', "-"));
    let line = registry.script("*/referrers/*", Act::Status(404));
    assert_eq!(ask(&proxy, "GET", &path, None).await.status, 404);
    assert_eq!(ask(&proxy, "GET", &path, None).await.header("cache-status"), "pullthrough; hit");
    assert_eq!(ask(&proxy, "GET", &format!("/v2/team/app/manifests/{tag}"), None).await.status, 404);
    registry.unscript(line);
    let asked = registry.count("GET */referrers/*");
    let mut session = proxy.client().session(EXAMPLE).await;
    let body = pullthrough::wire::Body::full(r#"{"schemaVersion":2,"layers":[]}"#);
    let put = session.send("PUT", &format!("/v2/team/app/manifests/{tag}"), &[("content-type", MANIFEST)], body).await;
    assert_eq!(put.unwrap().status(), 201);
    assert_eq!(ask(&proxy, "GET", &format!("/v2/team/app/manifests/{tag}"), None).await.status, 200);
    ask(&proxy, "GET", &path, None).await;
    assert_eq!(registry.count("GET */referrers/*"), asked + 1);
}

#[tokio::test]
async fn a_gateways_404_takes_no_list_away_and_the_registrys_does() {
    let (registry, digest, proxy) = public("tags: {fresh_for: 0s}").await;
    let referrers = format!("/v2/team/app/referrers/{digest}");
    let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
    for (path, list) in [(TAGS, r#"{"name":"team/app","tags":["1"]}"#), (referrers.as_str(), index.as_str())] {
        let said = |status, body: &str| Act::Answer { status, headers: vec![], body: body.to_owned() };
        let line = registry.script(&format!("GET {path}"), said(200, list));
        assert_eq!(ask(&proxy, "GET", path, None).await.bytes(), list);
        registry.unscript(line);
        for (words, is_word) in [("<html>", false), (r#"{"message":"no Route"}"#, false), (r#"{"errors":[]}"#, true)] {
            let headers = vec![("content-type".to_owned(), "application/octet-stream".to_owned())];
            let line =
                registry.script(&format!("GET {path}"), Act::Answer { status: 404, headers, body: words.into() });
            assert_eq!(ask(&proxy, "GET", path, None).await.status, 404, "{path}: {words}: passed on");
            registry.unscript(line);
            let line = registry.script(&format!("GET {path}"), Act::Status(503));
            let after = ask(&proxy, "GET", path, None).await;
            assert_eq!(is_last_known(&after), !is_word, "{path}: {words}: {after:?}");
            registry.unscript(line);
        }
    }
}
