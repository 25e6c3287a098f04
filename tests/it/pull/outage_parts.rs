//! A registry whose token service or CDN is away, rights in an outage, and a registry that is back in mid-pull.

use super::outage::{KINDS, Kind, Puller, TAGS, all_pull, all_stored, back, bearer_of, is_fresh, learn};
use super::{QUAY, layer};
use crate::support::client::Whole;
use crate::support::lab::Certificate;
use crate::support::{Act, Image, Plan, Proxy, Registry, Setup, Tokens, basic_value};

/// quay.io with its tokens at auth.example.com and its blobs at cdn.example.com, and an image that was public
/// before it wanted tokens.
struct Parts {
    registry: Registry,
    auth: Registry,
    cdn: Registry,
    proxy: Proxy,
    image: Image,
}

async fn parts() -> Parts {
    let tokens = Tokens::new().public("a");
    let (registry, auth) = (Registry::start("quay.io"), Registry::start("auth.example.com"));
    let cdn = registry.sibling(Setup::named("cdn.example.com"));
    auth.serve_tokens(&tokens);
    registry.redirect_blobs("https://cdn.example.com");
    let plan = Plan::new().registry(&registry, &format!("token_hosts: [auth.example.com], {TAGS}"));
    let proxy = plan.host("auth.example.com", &auth).host("cdn.example.com", &cdn).start().await;
    let image = registry.push_image("a", "1", &[layer(200_000, 4)]);
    learn(&proxy, &image).await;
    registry.require_token(&tokens, "https://auth.example.com/token");
    Parts { registry, auth, cdn, proxy, image }
}

fn is_their_challenge(ping: &Whole) -> bool {
    ping.header("www-authenticate").contains("https://auth.example.com/token")
}

/// What a client gets that was sent to the registry's own token service.
async fn token_of(proxy: &Proxy, query: &str, basic: Option<&str>) -> Whole {
    let mut session = proxy.client().session("auth.example.com:443").await;
    let headers = basic.map(|value| ("authorization", value));
    session.ask("GET", &format!("/token?service=lab&{query}"), headers.as_slice()).await
}

fn tells_our_token(registry: &Registry) -> bool {
    registry.requests().iter().any(|seen| format!("{:?}", seen.headers).contains("pullthrough-local"))
}

#[tokio::test]
async fn with_the_token_service_alone_dead_its_tokens_are_ours() {
    for how in ["refusing", "silent", "503", "429"] {
        let Parts { registry, mut auth, proxy, image, .. } = parts().await;
        assert!(is_their_challenge(&proxy.client().get(QUAY, "/v2/").await), "the registry is well");
        match how {
            "refusing" => auth.stop(),
            "silent" => drop(auth.script("*", Act::Silence)),
            status => drop(auth.script("*", Act::Status(status.parse().unwrap()))),
        }
        let answer = token_of(&proxy, "scope=repository:a:pull", None).await;
        assert_eq!(answer.status, 200, "{how}");
        let mut puller = Puller::new(&proxy, Kind::Containerd).await;
        puller.authorization = Some(bearer_of(&answer));
        puller.pull("a", "1", &image).await.unwrap();
        assert!(!tells_our_token(&registry), "{how}: our token went to the registry");
        let login = token_of(&proxy, "account=me", Some(&basic_value("me", "secret"))).await;
        let push = token_of(&proxy, "scope=repository:a:pull,push", None).await;
        assert!(!login.status.is_success() && !push.status.is_success(), "{how}: neither is ours to grant");
    }
}

#[tokio::test]
async fn a_silent_token_service_costs_one_missed_deadline_and_holds_the_registry_open_until_it_is_back() {
    let Parts { registry, auth, proxy, image, .. } = parts().await;
    let silence = auth.script("*", Act::Silence);
    auth.forget();
    for _ in 0..3 {
        token_of(&proxy, "scope=repository:a:pull", None).await;
    }
    let by_clients = auth.requests().iter().filter(|seen| seen.headers.contains_key("via")).count();
    assert!(by_clients <= 2, "{by_clients}: once more over a new connection");
    registry.forget();
    all_pull(&proxy, &image, "silent tokens").await;
    assert_eq!(registry.count("*/manifests/*"), 0, "the ping sends clients to us, and nobody asks");
    auth.unscript(silence);
    back(&proxy, "/v2/", is_their_challenge).await;
}

#[tokio::test]
async fn with_the_cdn_alone_dead_what_is_cached_pulls_and_the_rest_comes_when_it_is_back() {
    let registry = Registry::start("quay.io");
    let mut cdn = registry.sibling(Setup::named("cdn.example.com"));
    registry.redirect_blobs("https://cdn.example.com");
    let proxy = Plan::new().registry(&registry, TAGS).host("cdn.example.com", &cdn).start().await;
    let image = registry.push_image("a", "1", &[layer(200_000, 5)]);
    learn(&proxy, &image).await;
    let other = registry.push_blob("a", layer(1000, 6));
    cdn.stop();
    let path = format!("/v2/a/blobs/{other}");
    let missing = proxy.client().get(QUAY, &path).await;
    assert!(missing.status.is_server_error() || missing.status == 401, "{missing:?}");
    all_pull(&proxy, &image, "no CDN").await;
    back(&proxy, "/v2/a/manifests/1", is_fresh).await; // the registry itself is not held back for ever
    cdn.start_again();
    assert_eq!(back(&proxy, &path, is_fresh).await.bytes().len(), 1000);
}

#[tokio::test]
async fn with_all_of_them_dead_what_is_cached_pulls() {
    let Parts { mut registry, mut auth, mut cdn, proxy, image } = parts().await;
    registry.stop();
    auth.stop();
    cdn.stop();
    all_pull(&proxy, &image, "all dead").await;
    registry.start_again();
    auth.start_again();
    cdn.start_again();
    back(&proxy, "/v2/", is_their_challenge).await;
}

#[tokio::test]
async fn nothing_breaks_when_the_registry_is_back_in_mid_pull() {
    let Parts { mut registry, proxy, image, cdn: _cdn, auth: _auth } = parts().await;
    registry.stop();
    let mut puller = Puller::new(&proxy, Kind::Docker).await;
    let ping = puller.ask("GET", "/v2/").await;
    puller.authenticate(ping.header("www-authenticate"), "a").await;
    assert_eq!(puller.ask("HEAD", "/v2/a/manifests/1").await.status, 200);
    registry.start_again();
    back(&proxy, "/v2/", is_their_challenge).await;
    for _ in 0..2 {
        assert_eq!(puller.ask("GET", "/v2/a/manifests/1").await.status, 200, "the tag");
        for digest in image.layers.iter().chain([&image.config]) {
            assert_eq!(puller.ask("GET", &format!("/v2/a/blobs/{digest}")).await.status, 200);
        }
    }
    let private = registry.push_blob("team/app", layer(1000, 7));
    let denied = puller.ask("GET", &format!("/v2/team/app/blobs/{private}")).await;
    assert!(denied.status == 401 && is_their_challenge(&denied), "{denied:?}");
    for (method, path) in [("GET", "/v2/a/tags/list"), ("GET", "/v2/other"), ("GET", "/v2/")] {
        puller.ask(method, path).await;
    }
    assert!(registry.count("*/tags/list") == 1 && !tells_our_token(&registry), "our token went to the registry");
}

/// A private image that Alice has pulled; and she herself.
async fn pulled_by_alice() -> (Registry, Proxy, Image, Puller) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, TAGS).start().await;
    let image = registry.push_image("a", "1", &[layer(50_000, 8)]);
    registry.require_basic("alice", "secret");
    let mut alice = Puller::new(&proxy, Kind::Containerd).await;
    alice.authorization = Some(basic_value("alice", "secret"));
    alice.pull("a", "1", &image).await.unwrap();
    all_stored(&proxy, &image).await;
    (registry, proxy, image, alice)
}

#[tokio::test]
async fn a_private_image_pulls_for_whom_it_was_proven_to_and_for_nobody_else() {
    let (registry, proxy, image, _alice) = pulled_by_alice().await;
    registry.script("*", Act::Silence);
    for kind in KINDS {
        for (user, expected) in [(Some("alice"), true), (Some("bob"), false), (None, false)] {
            let mut puller = Puller::new(&proxy, kind).await;
            puller.user = user;
            let pulled = puller.pull("a", "1", &image).await;
            assert_eq!(pulled.is_ok(), expected, "{kind:?}, {user:?}: {pulled:?}");
            if let Err(refused) = pulled {
                assert!(matches!(refused.status.as_u16(), 401 | 503), "{kind:?}, {user:?}: {refused:?}");
            }
        }
    }
}

#[tokio::test]
async fn who_has_a_right_is_told_how_to_show_it_by_the_first_answer_of_the_outage() {
    for stopped in [true, false] {
        let (mut registry, _proxy, image, mut alice) = pulled_by_alice().await;
        if stopped {
            registry.stop();
        } else {
            registry.script("*", Act::Silence);
        }
        alice.authorization = None;
        alice.user = Some("alice");
        alice.pull("a", "1", &image).await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_registry_is_no_outage_for_who_waits_for_what_is_not_cached() {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, TAGS).start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 10)]);
    registry.script("*/manifests/*", Act::Delay(std::time::Duration::from_secs(6)));
    Puller::new(&proxy, Kind::Containerd).await.pull("a", "1", &image).await.unwrap();
}

/// What can be wrong with a host that a registry redirects to.
const WRONGS: [&str; 6] = ["no name", "refused", "no TLS", "unknown CA", "accepts and is silent", "silent"];

#[tokio::test]
async fn a_redirects_host_that_cannot_be_reached_in_any_way_is_no_outage_of_the_registry() {
    let judged = WRONGS.map(|wrong| async move {
        let registry = Registry::start("quay.io");
        let certificate = match wrong {
            "no TLS" => None,
            "unknown CA" => Some(Certificate::UnknownCa),
            _ => Some(Certificate::Good),
        };
        let mut cdn = registry.sibling(Setup { certificate, ..Setup::named("cdn.example.com") });
        let host = if wrong == "no name" { "cdn.invalid" } else { "cdn.example.com" };
        registry.redirect_blobs(&format!("https://{host}"));
        let plan = Plan::new().registry(&registry, TAGS).host("cdn.example.com", &cdn);
        let proxy = plan.upstream("first_byte_timeout: 3s").start().await;
        match wrong {
            "refused" => cdn.stop(),
            "accepts and is silent" => cdn.hang(true),
            "silent" => drop(cdn.script("*", Act::Silence)),
            _ => {}
        }
        for number in 0..4 {
            let image = registry.push_image("a", &number.to_string(), &[layer(100, 60 + number)]);
            let blob = proxy.client().get(QUAY, &format!("/v2/a/blobs/{}", image.layers[0])).await;
            assert!(blob.status.is_server_error(), "{wrong}: {blob:?}");
            let tag = proxy.client().get(QUAY, &format!("/v2/a/manifests/{number}")).await;
            assert!(is_fresh(&tag), "{wrong}: {tag:?}");
            let ping = proxy.client().get(QUAY, "/v2/").await;
            assert_eq!(
                (ping.status.as_u16(), ping.header("cache-status")),
                (200, "pullthrough; fwd=bypass"),
                "{wrong}"
            );
        }
        let is_probe = |seen: &&crate::support::Seen| seen.path == "/v2/" && !seen.headers.contains_key("via");
        assert_eq!(registry.requests().iter().filter(is_probe).count(), 0, "{wrong}: nobody doubts the registry");
    });
    futures_util::future::join_all(judged).await;
}

#[tokio::test]
async fn a_manifests_host_that_is_silent_is_no_outage_of_the_registry() {
    let registry = Registry::start("quay.io");
    let cdn = registry.sibling(Setup::named("cdn.example.com"));
    let location = "https://cdn.example.com{path}".to_owned();
    registry.script("*/manifests/elsewhere*", Act::Redirect { status: 307, location });
    cdn.script("*", Act::Silence);
    let plan = Plan::new().registry(&registry, TAGS).host("cdn.example.com", &cdn);
    let proxy = plan.upstream("first_byte_timeout: 5s").start().await;
    let image = registry.push_image("a", "1", &[layer(100, 70)]);
    for number in 0..3 {
        let gone = proxy.client().get(QUAY, &format!("/v2/a/manifests/elsewhere{number}")).await;
        assert!(gone.status.is_server_error(), "{gone:?}");
        Puller::new(&proxy, Kind::Docker).await.pull("a", "1", &image).await.unwrap();
        assert!(is_fresh(&proxy.client().get(QUAY, "/v2/a/manifests/1").await));
    }
}

#[tokio::test]
async fn a_registry_that_named_a_dead_token_service_once_is_back_when_it_names_another() {
    let Parts { registry, proxy, image, auth: _auth, cdn: _cdn } = parts().await;
    let tokens = Tokens::new().public("a");
    let dead = registry.script("/v2/*", Act::Bearer(tokens, "https://nowhere.invalid/token".to_owned()));
    let failed = proxy.client().get(QUAY, "/v2/a/manifests/1").await;
    assert!(!is_fresh(&failed), "{failed:?}");
    registry.unscript(dead);
    back(&proxy, "/v2/", is_their_challenge).await;
    let answer = back(&proxy, "/v2/a/manifests/1", is_fresh).await;
    assert_eq!(answer.header("docker-content-digest"), image.digest.to_string());
}
