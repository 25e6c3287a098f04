//! `_catalog` at the mirror: what the cache knows, by the names of the mirror, and to each caller what it may read.

use std::time::{Duration, Instant};

use super::{Lab, NAMES};
use crate::pull::layer;
use crate::support::client::Whole;
use crate::support::{Act, Plan, Proxy, Registry, basic_value};

fn names(answer: &Whole) -> Vec<String> {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let json: serde_json::Value = serde_json::from_slice(answer.bytes()).unwrap();
    json["repositories"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_mirrors_catalog_has_what_is_known_by_the_names_that_get_it_and_asks_no_registry() {
    let (hub, quay) = (Registry::start("docker.io"), Registry::start("quay.io"));
    let keys = "tags: {fresh_for: 0s}";
    let plan = Plan::new().registry(&hub, keys).registry(&quay, keys).mirror(&format!("catalog: true, {NAMES}"));
    let lab = Lab { proxy: plan.start().await, hub, quay };
    lab.hub.push_image("library/app", "1", &[layer(100, 1)]);
    lab.hub.push_image("org/tool", "1", &[layer(100, 2)]);
    lab.quay.push_image("org/app", "1", &[layer(100, 3)]);
    lab.quay.push_image("org/unknown", "1", &[layer(100, 4)]);
    let any = "any.example.org";
    assert_eq!(names(&lab.get(any, "/v2/_catalog").await), [""; 0]);
    for path in ["/v2/app/manifests/1", "/v2/org/tool/manifests/1", "/v2/quay.io/org/app/manifests/1"] {
        assert_eq!(lab.get(any, path).await.status, 200, "{path}");
    }
    let asked = lab.hub.requests().len() + lab.quay.requests().len();
    for (host, path, expected) in [
        (any, "/v2/_catalog", &["app", "org/tool", "q/org/app"][..]),
        (any, "/v2/_catalog?ns=quay.io", &["org/app"]),
        (any, "/v2/_catalog?ns=docker.io", &["app", "org/tool"]),
        ("hub.example.org", "/v2/_catalog", &["app", "org/tool"]),
        ("m.example.org", "/v2/_catalog", &["app", "org/tool", "team/app"]),
        ("all.example.org", "/v2/_catalog", &["app", "org/app", "org/tool"]),
        ("bounded.example.org", "/v2/_catalog", &["app", "org/app"]),
        (any, "/v2/_catalog?n=2&last=app", &["org/tool", "q/org/app"]),
        (any, "/v2/_catalog?n=0", &[]),
    ] {
        let listed = names(&lab.get(host, path).await);
        assert_eq!(listed, expected, "{host} {path}");
        for name in listed.iter().filter(|_| !path.contains("ns=")) {
            let answer = lab.get(host, &format!("/v2/{name}/tags/list")).await;
            assert_ne!(answer.status, 421, "{host}: {name} is a name here");
        }
    }
    let first = lab.get(any, "/v2/_catalog?n=1").await;
    assert_eq!(first.header("link"), "</v2/_catalog?n=1&last=app>; rel=\"next\"");
    assert_eq!(first.header("cache-status"), "pullthrough; hit");
    let head = lab.session(any).await.ask("HEAD", "/v2/_catalog?n=1", &[]).await;
    assert_eq!((head.status, head.header("content-length")), (first.status, first.header("content-length")));
    for (path, status) in
        [("/v2/_catalog?n=garbage", 400), ("/v2/_catalog?n=-1", 400), ("/v2/_catalog?ns=x.example", 404)]
    {
        assert_eq!(lab.get(any, path).await.status, status, "{path}");
    }
    let lists = lab.hub.count("*/tags/list") + lab.quay.count("*/tags/list");
    assert_eq!(lab.hub.requests().len() + lab.quay.requests().len(), asked + lists, "no registry is asked");
    assert_eq!(lab.hub.count("*_catalog") + lab.quay.count("*_catalog"), 0);
}

async fn guarded(more: &str) -> (Registry, Proxy, String) {
    let quay = Registry::start("quay.io");
    let alice = basic_value("alice", "secret");
    quay.push_image("org/app", "1", &[layer(100, 1)]);
    quay.push_image("team/secret", "1", &[layer(100, 2)]);
    quay.script("/v2/team/*", Act::Unless(alice.clone(), Box::new(Act::Status(401))));
    let mirror = "catalog: true, names: {quay.example.org: quay.io}";
    let mut plan = Plan::new().registry(&quay, "tags: {fresh_for: 1h}").mirror(mirror);
    if !more.is_empty() {
        plan = plan.clients(more);
    }
    let proxy = plan.start().await;
    let mut session = proxy.client().session("quay.io:443").await;
    assert_eq!(session.get("/v2/org/app/manifests/1").await.status, 200);
    let pulled = session.ask("GET", "/v2/team/secret/manifests/1", &[("authorization", &alice)]).await;
    assert_eq!(pulled.status, 200);
    (quay, proxy, alice)
}

async fn listed(proxy: &Proxy, host: &str, authorization: Option<&str>) -> Vec<String> {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    names(&proxy.mirror_client().plain_session(host).await.ask("GET", "/v2/_catalog", &headers).await)
}

#[tokio::test]
async fn a_private_repository_is_named_to_whoever_has_proven_a_right_and_to_nobody_else() {
    let (mut quay, mut proxy, alice) = guarded("").await;
    let guess = basic_value("alice", "guess");
    assert_eq!(listed(&proxy, "quay.example.org", Some(&alice)).await, ["org/app", "team/secret"]);
    let public = ["org/app"];
    assert_eq!(listed(&proxy, "quay.example.org", Some(&guess)).await, public);
    assert_eq!(listed(&proxy, "quay.example.org", None).await, public);
    // Where the name takes no credentials of the registry's, they are nobody's.
    let path = "/v2/_catalog?ns=quay.io";
    let headers = [("authorization", alice.as_str())];
    let by_namespace = proxy.mirror_client().plain_session("any.example.org").await.ask("GET", path, &headers).await;
    assert_eq!(names(&by_namespace), public);
    quay.stop();
    proxy.restart().await;
    for who in [Some(alice.as_str()), Some(&guess), None] {
        assert_eq!(listed(&proxy, "quay.example.org", who).await, public, "{who:?} after a restart");
    }
}

#[tokio::test]
async fn a_registry_whose_catalog_a_rule_denies_is_left_out() {
    let rules = "rules: [{name: no-other, effect: deny, registries: [quay.io], repositories: ['other/*']}]";
    let (_quay, proxy, alice) = guarded(rules).await;
    assert_eq!(listed(&proxy, "quay.example.org", Some(&alice)).await, [""; 0]);
}

#[tokio::test]
async fn without_the_key_the_registry_behind_the_name_is_asked() {
    let lab = Lab::new().await;
    assert_eq!(lab.get("hub.example.org", "/v2/_catalog").await.status, 404);
    assert_eq!(lab.hub.count("*_catalog"), 1);
}

#[tokio::test]
async fn passwords_guessed_at_the_catalog_wait_and_who_has_shown_a_right_does_not() {
    for is_away in [false, true] {
        let (mut quay, proxy, alice) = guarded("").await;
        if is_away {
            quay.stop();
            proxy.client().get("quay.io:443", "/v2/none/manifests/1").await;
        }
        let begun = Instant::now();
        for number in 0..6 {
            let guess = basic_value("alice", &format!("guess{number}"));
            assert_eq!(listed(&proxy, "quay.example.org", Some(&guess)).await, ["org/app"]);
        }
        assert!(begun.elapsed() >= Duration::from_millis(1750), "three are free");
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(listed(&proxy, "quay.example.org", Some(&alice)).await, ["org/app", "team/secret"]);
            assert_eq!(listed(&proxy, "quay.example.org", None).await, ["org/app"]);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "twenty guesses would wait for more than a minute");
    }
}
