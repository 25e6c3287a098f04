//! What clients can have fail as they like is no outage for others, opens nothing, and is left again.

use std::time::Duration;

use super::outage::{Kind, Puller, TAGS, back, is_fresh, learn};
use super::private::{ALICE, AUTH, Lab};
use super::{QUAY, layer};
use crate::support::client::Whole;
use crate::support::{Act, Image, Plan, Proxy, Registry, Setup, eventually, throughout, until};

/// quay.io, where two images are, of which nothing is cached.
async fn two() -> (Registry, Proxy, [Image; 2]) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, TAGS).start().await;
    let images = [1, 2].map(|seed| registry.push_image("a", &seed.to_string(), &[layer(2000, seed)]));
    (registry, proxy, images)
}

async fn pulls(proxy: &Proxy, reference: &str, image: &Image) {
    let pulled = Puller::new(proxy, Kind::Containerd).await.pull("a", reference, image).await;
    assert!(pulled.is_ok(), "{reference}: {pulled:?}");
}

fn probes(registry: &Registry) -> usize {
    registry.requests().iter().filter(|seen| seen.path == "/v2/" && !seen.headers.contains_key("via")).count()
}

#[tokio::test]
async fn what_a_client_makes_up_and_gets_errors_for_is_no_outage() {
    let (registry, proxy, [one, two]) = two().await;
    registry.script("*/manifests/md5*", Act::Status(500));
    registry.script("*/manifests/sha384*", Act::Status(500));
    registry.script("*/tags/list*", Act::Status(500));
    registry.script("*/referrers/*", Act::Status(500));
    let (zeros, digest) = ("0".repeat(96), &one.digest);
    for number in 0..4 {
        for path in [
            format!("/v2/x{number}/manifests/md5:{number:032}"),
            format!("/v2/x{number}/manifests/sha384:{zeros}"),
            format!("/v2/x{number}/tags/list"),
            format!("/v2/x{number}/referrers/{digest}"),
        ] {
            assert_eq!(proxy.client().get(QUAY, &path).await.status, 500, "{path}");
        }
    }
    pulls(&proxy, "1", &one).await;
    pulls(&proxy, "2", &two).await;
    assert_eq!(probes(&registry), 0, "they are no sign");
    assert_eq!(registry.count("GET */manifests/md5*"), 4);
}

#[tokio::test]
async fn one_images_errors_bar_no_other_and_cost_few_probes() {
    for act in [Act::Status(500), Act::Status(503), Act::Reset] {
        let (registry, proxy, [one, two]) = two().await;
        let how = format!("{act:?}");
        registry.script("*/ill/*", act);
        for number in 0..12 {
            let path = format!("/v2/ill/manifests/{number}");
            let answer = proxy.client().get(QUAY, &path).await;
            assert!(matches!(answer.status.as_u16(), 500 | 502 | 503), "{how}: {answer:?}");
        }
        pulls(&proxy, "1", &one).await;
        pulls(&proxy, "2", &two).await;
        assert!(probes(&registry) <= 4, "{how}: {}", probes(&registry));
    }
}

#[tokio::test]
async fn a_dead_host_that_one_repository_redirects_to_bars_that_host_alone() {
    let (registry, proxy, [one, two]) = two().await;
    let mut dead = registry.sibling(Setup::named("cdn.example.com"));
    proxy.reload(Plan::new().registry(&registry, TAGS).host("cdn.example.com", &dead)).await;
    registry.script("*/ill/blobs/*", Act::Redirect { status: 307, location: "https://cdn.example.com{path}".into() });
    dead.stop();
    for number in 0..6 {
        let blob = registry.push_blob("ill", layer(100, 50 + number));
        let answer = proxy.client().get(QUAY, &format!("/v2/ill/blobs/{blob}")).await;
        assert!(answer.status.is_server_error(), "{answer:?}");
        if number == 3 {
            pulls(&proxy, "1", &one).await;
        }
    }
    pulls(&proxy, "2", &two).await;
    assert_eq!(registry.count("GET */a/blobs/*"), 4, "each once");
}

#[tokio::test]
async fn a_page_of_the_token_host_is_passed_on_and_bars_nobody() {
    let lab = Lab::hasty("").await;
    let image = lab.registry.push_image("public/app", "1", &[layer(1000, 3)]);
    assert_eq!(lab.get("/v2/public/app/manifests/1", None).await.status, 401, "its challenge names the realm");
    let page = async |path: &str| lab.proxy.client().session(AUTH).await.ask("GET", path, &[]).await;
    lab.auth.script("/error*", Act::Status(500));
    lab.auth.script("/slow*", Act::Delay(Duration::from_secs(3)));
    for _ in 0..4 {
        assert_eq!(page("/error/page").await.status, 500);
        assert_eq!(page("/error?service=lab&scope=repository:public/app:pull").await.status, 500);
    }
    assert_ne!(page("/slow/page").await.status, 200, "no token for a page");
    assert_ne!(page("/slow?service=lab").await.status, 200, "nor for what looks like a request for one");
    let anybody = lab.bearer(None, "public/app").await;
    assert!(!anybody.contains("pullthrough"), "{anybody}");
    for digest in [&image.layers[0], &image.config] {
        assert_eq!(lab.get(&format!("/v2/public/app/blobs/{digest}"), Some(&anybody)).await.status, 200);
    }
}

#[tokio::test]
async fn a_token_request_that_is_made_up_to_fail_or_hang_bars_nobody_else() {
    for act in [Act::Status(500), Act::Silence] {
        let lab = Lab::hasty("").await;
        let how = format!("{act:?}");
        let image = lab.registry.push_image("public/app", "1", &[layer(1000, 4)]);
        lab.get("/v2/public/app/manifests/1", None).await;
        lab.auth.script("/token?service=nonsense*", act);
        let path = |number: u32| format!("/token?service=nonsense&scope=repository:x{number}:pull");
        for number in 0..4 {
            lab.proxy.client().session(AUTH).await.ask("GET", &path(number), &[]).await;
        }
        let anybody = lab.bearer(None, "public/app").await;
        let path = format!("/v2/public/app/blobs/{}", image.layers[0]);
        assert_eq!(lab.get(&path, Some(&anybody)).await.status, 200, "{how}");
        assert_eq!(lab.registry.count(&format!("GET {path}")), 1, "{how}");
    }
}

#[tokio::test]
async fn whoever_lost_a_right_gets_it_back_by_no_error_that_it_has_made() {
    let lab = Lab::hasty(", grants: {life: 1s}").await;
    let image = lab.registry.push_image("team/app", "1", &[layer(1000, 5)]);
    let paths = [format!("/v2/team/app/blobs/{}", image.layers[0]), "/v2/team/app/manifests/1".to_owned()];
    let alice = lab.bearer(ALICE, "team/app").await;
    for path in &paths {
        assert_eq!(lab.get(path, Some(&alice)).await.status, 200);
    }
    lab.proxy.stored(&image.layers[0]).await;
    // Its own questions fail, so that the registry cannot say no; and others, as many as it likes.
    let own = lab.registry.script("*/team/app/*", Act::Status(500));
    let others = lab.registry.script("*/x*/*", Act::Status(500));
    until("its right ends", async || lab.get(&paths[0], Some(&alice)).await.status != 200).await;
    for number in 0..4 {
        lab.get(&format!("/v2/x{number}/manifests/1"), Some(&alice)).await;
        for path in &paths {
            assert_eq!(lab.get(path, Some(&alice)).await.status, 500, "{path}");
        }
    }
    lab.auth.script("*", Act::Silence);
    let path = "/token?service=lab&scope=repository:team/app:pull";
    assert_eq!(lab.proxy.client().session(AUTH).await.ask("GET", path, &[]).await.status, 200, "a token of ours");
    for path in &paths {
        assert_ne!(
            lab.get(path, Some(&alice)).await.status,
            200,
            "{path}: a token service that is away gives none back"
        );
    }
    lab.tokens.revoke_all();
    lab.registry.unscript(own);
    lab.registry.unscript(others);
    assert_eq!(lab.get(&paths[0], Some(&alice)).await.status, 401);
}

#[tokio::test]
async fn a_token_service_that_is_away_prolongs_no_right() {
    let mut lab = Lab::hasty(", grants: {life: 1s}").await;
    let image = lab.registry.push_image("team/app", "1", &[layer(1000, 6)]);
    let path = format!("/v2/team/app/blobs/{}", image.layers[0]);
    let alice = lab.bearer(ALICE, "team/app").await;
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    lab.proxy.stored(&image.layers[0]).await;
    lab.auth.stop();
    let local = lab.bearer(ALICE, "team/app").await;
    assert!(local.contains("pullthrough"), "{local}");
    // Her own token is still the registry's: it goes on.
    throughout(Duration::from_millis(1500), async || {
        assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    })
    .await;
    lab.tokens.revoke_all();
    until("it ends", async || lab.get(&path, Some(&alice)).await.status != 200).await;
    assert_ne!(lab.get(&path, Some(&local)).await.status, 200);
}

#[tokio::test]
async fn a_registry_whose_ping_is_always_an_error_is_there_again_when_it_answers() {
    for act in [Act::Reset, Act::Status(500)] {
        let (registry, proxy, [one, two]) = two().await;
        let how = format!("{act:?}");
        registry.script("/v2/", Act::Status(503));
        learn(&proxy, &one).await;
        let broken = registry.script("*/*", act);
        for number in 0..8 {
            proxy.client().get(QUAY, &format!("/v2/a/manifests/none{number}")).await;
        }
        registry.unscript(broken);
        let fresh = back(&proxy, "/v2/a/manifests/2", is_fresh).await;
        assert_eq!(fresh.header("docker-content-digest"), two.digest.to_string(), "{how}");
        pulls(&proxy, "2", &two).await;
    }
}

#[tokio::test]
async fn nobody_is_refused_while_a_probe_asks() {
    let (registry, proxy, [one, _]) = two().await;
    let hanging = registry.script_times(1, "GET /v2/a/manifests/none", Act::Silence);
    let gate = crate::support::Gate::new();
    registry.script_times(1, "/v2/", Act::Wait(gate.clone()));
    let first = tokio::spawn({
        let client = proxy.client();
        async move { client.get(QUAY, "/v2/a/manifests/none").await.status.as_u16() }
    });
    eventually("the probe asks", || probes(&registry) == 1).await;
    let other = async {
        let answer: Whole = proxy.client().get(QUAY, "/v2/a/manifests/1").await;
        assert_eq!((answer.status.as_u16(), answer.header("docker-content-digest")), (200, &*one.digest.to_string()));
    };
    tokio::join!(other, async { gate.open() });
    assert_eq!(first.await.unwrap(), 404, "and what hung is asked anew");
    registry.unscript(hanging);
}
