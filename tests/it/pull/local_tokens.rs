//! What a token of ours carries: no more than was proven, and while the registry is there nothing but nobody's right.

use super::outage::{Kind, Puller, TAGS, bearer_of, learn};
use super::{QUAY, layer};
use crate::support::client::Whole;
use crate::support::{Act, Image, Log, Plan, Proxy, Registry, Tokens, basic_value, until};

/// quay.io, where `a` was pulled once by nobody and is believed to be public only while the registry is away.
async fn was_public() -> (Registry, Proxy, Image) {
    let registry = Registry::start("quay.io");
    let settings = format!("{TAGS}, grants: {{life: 1s}}");
    let proxy = Plan::new().registry(&registry, &settings).start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 1)]);
    learn(&proxy, &image).await;
    (registry, proxy, image)
}

/// A token of ours, as anybody gets one with a password that nobody verifies.
async fn token(proxy: &Proxy, user: &str) -> String {
    let path = "/v2/_pullthrough/token?scope=repository:a:pull";
    let basic = basic_value(user, "whatever");
    let answer = proxy.client().session(QUAY).await.ask("GET", path, &[("authorization", &basic)]).await;
    assert_eq!(answer.status, 200);
    bearer_of(&answer)
}

async fn ask(proxy: &Proxy, path: &str, authorization: &str) -> Whole {
    proxy.client().session(QUAY).await.ask("GET", path, &[("authorization", authorization)]).await
}

#[tokio::test]
async fn what_is_public_no_more_is_not_had_by_a_token_of_ours() {
    for status in [401, 403] {
        let (registry, proxy, image) = was_public().await;
        registry.script("*", Act::Status(status));
        let bearer = token(&proxy, "mallory").await;
        let tag = async || ask(&proxy, "/v2/a/manifests/1", &bearer).await.status;
        until("it ends within the verdict's life", async || tag().await != 200).await;
        let blob = format!("/v2/a/blobs/{}", image.layers[0]);
        let manifest = format!("/v2/a/manifests/{}", image.digest);
        for path in ["/v2/a/manifests/1", &manifest, &blob] {
            assert_eq!(ask(&proxy, path, &bearer).await.status, status, "{path}");
        }
        assert_eq!(proxy.client().get(QUAY, &blob).await.status, status, "nor by anybody after that");
    }
}

#[tokio::test]
async fn a_password_that_is_not_verified_opens_nothing_while_the_registry_is_there() {
    let mut registry = Registry::start("quay.io");
    // What is fetched ahead in her name would be refused, and that is her registry's no.
    let proxy = Plan::new().registry(&registry, &format!("{TAGS}, prefetch: off")).start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 1)]);
    let alice = basic_value("alice", "whatever");
    let hers = registry.require_basic("alice", "whatever");
    for path in ["/v2/a/manifests/1".to_owned(), format!("/v2/a/blobs/{}", image.layers[0])] {
        assert_eq!(ask(&proxy, &path, &alice).await.status, 200);
    }
    registry.script("*", Act::Status(401)); // her right is withdrawn; she does not ask in her own name
    registry.unscript(hers);
    let bearer = token(&proxy, "alice").await;
    for path in ["/v2/a/manifests/1".to_owned(), format!("/v2/a/blobs/{}", image.layers[0])] {
        assert_eq!(ask(&proxy, &path, &bearer).await.status, 401, "{path}");
    }
    registry.stop();
    assert_eq!(Puller::new(&proxy, Kind::Containerd).await.ask("GET", "/v2/a/manifests/1").await.status, 401);
    let bearer = token(&proxy, "alice").await; // now it counts what she has proven
    assert_eq!(ask(&proxy, "/v2/a/manifests/1", &bearer).await.status, 200);
}

#[tokio::test]
async fn what_a_token_of_ours_is_denied_is_an_answer_and_no_warning() {
    let log = Log::begin();
    let mut registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, &format!("{TAGS}, prefetch: off")).start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 1)]);
    let hers = registry.require_basic("alice", "whatever");
    let digest = &image.layers[0];
    let blob = format!("/v2/a/blobs/{digest}");
    assert_eq!(ask(&proxy, &blob, &basic_value("alice", "whatever")).await.status, 200);
    // As by eviction, once it is stored: her right outlives the content.
    until("it is stored", async || std::fs::remove_file(proxy.blob_file(digest)).is_ok()).await;
    registry.script("*", Act::Status(401)); // first, so that nobody may read in between
    registry.unscript(hers);
    registry.stop();
    Puller::new(&proxy, Kind::Containerd).await.ask("GET", "/v2/a/manifests/never-seen").await;
    let bearer = token(&proxy, "alice").await; // hers, and good for nobody's questions when the registry is back
    assert_eq!(ask(&proxy, &blob, &bearer).await.status, 503);
    registry.start_again();
    until("the registry is back", async || ask(&proxy, &blob, &bearer).await.status == 401).await;
    assert_eq!(log.warnings(&[&digest.to_string()]), Vec::<String>::new());
}

#[tokio::test]
async fn who_carries_the_registrys_own_token_is_told_to_come_again_and_not_to_authenticate() {
    let (mut registry, proxy, _) = was_public().await;
    registry.stop();
    let path = "/v2/a/manifests/never-seen";
    assert_eq!(Puller::new(&proxy, Kind::Containerd).await.ask("GET", path).await.status, 401, "it carries nothing");
    let answer = ask(&proxy, path, "Bearer theirs").await;
    assert_eq!(answer.status, 503);
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn after_one_failed_ping_a_public_image_that_nobody_knows_yet_is_pulled() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, TAGS).start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 1)]);
    let failing = registry.script("*/v2/", Act::Status(503));
    let mut docker = Puller::new(&proxy, Kind::Docker).await;
    let ping = docker.ask("GET", "/v2/").await;
    docker.authenticate(ping.header("www-authenticate"), "a").await;
    let tokens = Tokens::new().public("a");
    registry.require_token(&tokens, "https://quay.io/token");
    registry.serve_tokens(&tokens);
    registry.unscript(failing);
    for path in ["/v2/a/manifests/1".to_owned(), format!("/v2/a/blobs/{}", image.layers[0])] {
        assert_eq!(docker.ask("GET", &path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn one_page_that_fails_is_no_outage() {
    let (registry, proxy, _) = was_public().await;
    let image = registry.push_image("a", "2", &[layer(1000, 2)]);
    registry.script("GET /v1/*", Act::Status(503));
    registry.script("*/blobs/sha256:0*", Act::Status(500));
    for number in 0..5 {
        assert_eq!(proxy.client().get(QUAY, &format!("/v1/search?q={number}")).await.status, 503);
        let blob = format!("/v2/a/blobs/sha256:{}", "0".repeat(64));
        assert_eq!(proxy.client().get(QUAY, &blob).await.status, 500);
    }
    Puller::new(&proxy, Kind::Podman).await.pull("a", "2", &image).await.unwrap();
}

#[tokio::test]
async fn the_first_question_of_an_outage_with_a_token_of_ours_is_told_to_come_again() {
    let unknown = "1".repeat(64);
    let paths = [
        "/v2/a/tags/list".to_owned(),
        format!("/v2/a/referrers/sha256:{unknown}"),
        "/v2/a/manifests/never-seen".to_owned(),
        format!("/v2/a/blobs/sha256:{unknown}"),
    ];
    for away in ["the registry", "its token service"] {
        for path in &paths {
            let tokens = Tokens::new().public("a");
            let (mut registry, mut auth) = (Registry::start("quay.io"), Registry::start("auth.example.com"));
            auth.serve_tokens(&tokens);
            registry.require_token(&tokens, "https://auth.example.com/token");
            let plan = Plan::new().registry(&registry, &format!("token_hosts: [auth.example.com], {TAGS}"));
            let proxy = plan.host("auth.example.com", &auth).start().await;
            // The token is of an earlier outage.
            registry.stop();
            assert_ne!(proxy.client().get(QUAY, "/v2/a/manifests/1").await.status, 200);
            let bearer = token(&proxy, "alice").await;
            registry.start_again();
            let is_back = async || {
                let ping = proxy.client().get(QUAY, "/v2/").await;
                ping.header("www-authenticate").contains("auth.example.com")
            };
            until("it is back", is_back).await;
            if away == "the registry" {
                registry.stop()
            } else {
                auth.stop()
            }
            let answer = ask(&proxy, path, &bearer).await;
            let told = (answer.status.as_u16(), answer.header("retry-after").is_empty());
            assert_eq!(told, (503, false), "{path} without {away}: {}", answer.header("proxy-status"));
        }
    }
}
