//! Registries whose HEAD is refused or says too little: each caller's right is told by its own GET.

use std::time::Duration;

use super::private::{ALICE, BOB, CAROL, Lab, ask, bearer};
use super::{QUAY, layer};
use crate::support::{Act, Gate, Image, Line, Plan, Proxy, Registry, Seen, Setup, Tokens, eventually, until};

/// HEAD is not taken; or it says no digest; or nothing at all.
fn heads() -> [Vec<Act>; 3] {
    [vec![Act::NoHead], vec![Act::NoDigest], vec![Act::NoDigest, Act::NoLength]]
}

const REALM: &str = "https://auth.example.com/token";

/// A registry with tokens of its own behind a mirror that anybody may read.
struct Mirrored {
    registry: Registry,
    mirror: Registry,
    proxy: Proxy,
    tokens: Tokens,
    guard: Line,
    /// The token service, and a registry that says yes to every HEAD.
    _others: [Registry; 2],
}

impl Mirrored {
    async fn new() -> Self {
        Self::with("").await
    }

    /// `more` are keys of the registry's entry.
    async fn with(more: &str) -> Self {
        let tokens = Tokens::new().user("alice", "secret-a", &["team/*"]).user("bob", "secret-b", &[]);
        let auth = Registry::start("auth.example.com");
        auth.serve_tokens(&tokens);
        let registry = Registry::start("registry.example.com");
        let guard = registry.require_token(&tokens, REALM);
        let mirror = registry.sibling(Setup::named("mirror.internal"));
        let endpoint = |server: &Registry| {
            let (name, address, ca_file) = (server.name(), server.address(), server.ca_file());
            format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca_file.display())
        };
        let both = format!(
            "'registry.example.com': {{token_hosts: [auth.example.com], endpoints: [{}, {}]{more}}}",
            endpoint(&mirror),
            endpoint(&registry)
        );
        let liar = Registry::start("quay.io");
        liar.script("*", Act::EveryHead);
        let plan = Plan::new().raw_registry(&both).registry(&liar, "");
        let proxy = plan.host("auth.example.com", &auth).start().await;
        Self { registry, mirror, proxy, tokens, guard, _others: [auth, liar] }
    }
}

fn paths(image: &Image) -> [String; 2] {
    [format!("/v2/team/app/manifests/{}", image.digest), format!("/v2/team/app/blobs/{}", image.layers[0])]
}

#[tokio::test]
async fn behind_a_mirror_the_registry_lets_in_by_get_whom_it_does_not_tell_by_head() {
    for acts in heads() {
        let Mirrored { registry, mirror, proxy, .. } = &Mirrored::new().await;
        for act in &acts {
            registry.script("HEAD *", act.clone());
        }
        let image = registry.push_image("team/app", "1", &[layer(300_000, 1)]);
        let [alice, bob] =
            [bearer(&proxy.client(), ALICE, "team/app").await, bearer(&proxy.client(), BOB, "team/app").await];
        for path in paths(&image) {
            assert_eq!(ask(&proxy.client(), "GET", &path, Some(&bob)).await.status, 401, "{acts:?} {path}");
            let got = ask(&proxy.client(), "GET", &path, Some(&alice)).await;
            assert_eq!(got.status, 200, "{acts:?} {path}: {:?}", got.body);
            for other in [Some(bob.as_str()), None] {
                assert_eq!(ask(&proxy.client(), "GET", &path, other).await.status, 401, "{acts:?} {path}");
            }
        }
        let [_, layer] = paths(&image);
        assert_eq!(mirror.count(&format!("GET {layer}")), 1, "the bytes come from the mirror");
        let whole = |seen: &Seen| seen.method == "GET" && seen.path == layer && seen.status == Some(200);
        assert_eq!(registry.requests().iter().filter(|seen| whole(seen)).count(), 0, "{acts:?}");
    }
}

#[tokio::test]
async fn two_who_ask_at_once_for_a_blob_whose_head_proves_nothing_are_each_let_in_by_their_own_get() {
    for acts in heads() {
        let lab = Lab::new("").await;
        for act in &acts {
            lab.registry.script("HEAD *", act.clone());
        }
        let image = lab.registry.push_image("team/app", "1", &[layer(300_000, 2)]);
        let [_, path] = paths(&image);
        let gate = Gate::new();
        lab.registry.script_times(1, "GET */blobs/*", Act::Hold(100_000, gate.clone()));
        let [alice, bob, carol] = [
            lab.bearer(ALICE, "team/app").await,
            lab.bearer(BOB, "team/app").await,
            lab.bearer(CAROL, "team/app").await,
        ];
        let others = async {
            eventually("the first one asks", || lab.registry.count(&format!("GET {path}")) > 0).await;
            assert_eq!(lab.get(&path, Some(&bob)).await.status, 401, "{acts:?}");
            let carols = lab.proxy.client();
            let carols = tokio::spawn({
                let (path, carol) = (path.clone(), carol.clone());
                async move { ask(&carols, "GET", &path, Some(&carol)).await }
            });
            let asks = |seen: &Seen| seen.headers.get("authorization").is_some_and(|value| *value == *carol);
            eventually("the other one asks", || lab.registry.requests().iter().any(asks)).await;
            gate.open();
            carols.await.unwrap()
        };
        let (first, second) = tokio::join!(lab.get(&path, Some(&alice)), others);
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200), "{acts:?}");
        assert!(first.bytes() == second.bytes());
        let whole = |seen: &Seen| seen.method == "GET" && seen.status == Some(200);
        let fetched = lab.registry.requests().iter().filter(|seen| seen.path == path && whole(seen)).count();
        assert_eq!(fetched, 1, "{acts:?}: one download");
    }
}

#[tokio::test]
async fn a_page_before_a_mirror_opens_nothing_neither_by_head_nor_by_get() {
    let page = |media_type: &str| Act::Answer {
        status: 200,
        headers: vec![("content-type".into(), media_type.into())],
        body: "<login>".into(),
    };
    // What does not look like a page lets somebody in by its length, and the mirror delivers what nobody gets: anew for
    // who asks later, since what is here with nobody's right counts as not here.
    let (html, bytes) = (|| page("text/html"), || page("application/octet-stream"));
    let table = [
        (vec![html()], false),
        (vec![Act::NoHead, html()], false),
        (vec![bytes()], true),
        (vec![Act::NoHead, bytes()], true),
    ];
    for (acts, is_delivered) in table {
        let Mirrored { registry, mirror, proxy, tokens, guard, .. } = &Mirrored::new().await;
        let image = registry.push_image("team/app", "1", &[layer(300_000, 3)]);
        let [manifest, blob] = paths(&image);
        let alice = bearer(&proxy.client(), ALICE, "team/app").await;
        assert_eq!(ask(&proxy.client(), "GET", &manifest, Some(&alice)).await.status, 200);
        // Never open in between: whether anybody may read is asked behind, at any time.
        let gateway: Vec<_> = acts.iter().map(|act| registry.script("*", act.clone())).collect();
        registry.unscript(*guard);
        assert_eq!(ask(&proxy.client(), "GET", &blob, None).await.status, 502, "{acts:?}");
        if is_delivered {
            proxy.stored(&image.layers[0]).await;
        }
        for path in [&blob, &manifest, &blob] {
            assert_ne!(ask(&proxy.client(), "GET", path, None).await.status, 200, "{acts:?} {path}");
        }
        assert_eq!(mirror.count(&format!("GET {blob}")) > 0, is_delivered, "{acts:?}");
        let elsewhere = format!("/v2/any/blobs/{}", image.layers[0]);
        assert_eq!(proxy.client().get(QUAY, &elsewhere).await.status, 404, "it counts as shared by nobody");
        registry.require_token(tokens, REALM);
        gateway.into_iter().for_each(|line| registry.unscript(line));
        for path in [&blob, &manifest] {
            assert_eq!(ask(&proxy.client(), "GET", path, None).await.status, 401, "{acts:?} {path}");
        }
    }
}

#[tokio::test]
async fn what_a_mirror_delivers_keeps_no_right_alive() {
    let Mirrored { registry, mirror, proxy, tokens, .. } = &Mirrored::with(", grants: {life: 4s}").await;
    let image = registry.push_image("team/app", "1", &[layer(5000, 10)]);
    let [_, path] = paths(&image);
    let alice = bearer(&proxy.client(), ALICE, "team/app").await;
    assert_eq!(ask(&proxy.client(), "GET", &path, Some(&alice)).await.status, 200);
    proxy.stored(&image.layers[0]).await;
    tokens.revoke_all();
    until("it ends within its life", async || {
        let _ = std::fs::remove_file(proxy.blob_file(&image.layers[0])); // as by eviction
        ask(&proxy.client(), "GET", &path, Some(&alice)).await.status == 401
    })
    .await;
    assert!(mirror.count(&format!("GET {path}")) > 1, "the mirror has delivered it meanwhile");
}

/// What Carol gets of a blob that Alice has had stored, where the registry takes no HEAD and does `acts` with a GET.
async fn after_alice(bytes: Vec<u8>, acts: &[Act]) -> u16 {
    let lab = Lab::new("").await;
    lab.registry.script("HEAD *", Act::NoHead);
    for act in acts {
        lab.registry.script("GET */blobs/*", act.clone());
    }
    let digest = lab.registry.push_blob("team/app", bytes);
    let path = format!("/v2/team/app/blobs/{digest}");
    let [alice, bob, carol] =
        [lab.bearer(ALICE, "team/app").await, lab.bearer(BOB, "team/app").await, lab.bearer(CAROL, "team/app").await];
    assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
    lab.proxy.stored(&digest).await;
    assert_eq!(lab.get(&path, Some(&bob)).await.status, 401);
    lab.get(&path, Some(&carol)).await.status.as_u16()
}

#[tokio::test]
async fn a_stored_blob_is_had_by_the_next_one_from_registries_that_say_hardly_anything() {
    assert_eq!(after_alice(layer(5000, 4), &[]).await, 200);
    assert_eq!(after_alice(layer(5000, 5), &[Act::IgnoreRange]).await, 200);
    assert_eq!(
        after_alice(layer(5000, 6), &[Act::IgnoreRange, Act::NoLength]).await,
        200,
        "neither ranges nor lengths"
    );
    assert_eq!(after_alice(Vec::new(), &[]).await, 200, "of an empty content there is no first byte");
}

#[tokio::test]
async fn an_address_that_is_signed_for_get_alone_proves_by_get() {
    let registry = Registry::start("registry.example.com");
    let cdn = registry.sibling(Setup::named("cdn.test"));
    registry.redirect_blobs("https://cdn.test");
    cdn.script("HEAD *", Act::Status(403));
    let proxy = Plan::new().registry(&registry, "").host("cdn.test", &cdn).start().await;
    let digest = registry.push_blob("team/app", layer(5000, 7));
    let path = format!("/v2/team/app/blobs/{digest}");
    let private = registry.script("*", Act::Unless("Basic b3duZXI=".into(), Box::new(Act::Status(401))));
    assert_eq!(ask(&proxy.client(), "GET", &path, Some("Basic b3duZXI=")).await.status, 200);
    proxy.stored(&digest).await;
    eventually("whether it is public was asked", || registry.count("GET *") == 2).await;
    registry.unscript(private);
    assert_eq!(ask(&proxy.client(), "GET", &path, Some("Basic c3RyYW5nZXI=")).await.status, 200);
    assert_eq!(cdn.count("GET *"), 2, "once for the bytes and once for the right");
}

#[tokio::test]
async fn a_gateway_that_says_a_length_of_0_has_said_nothing() {
    let Mirrored { registry, proxy, .. } = &Mirrored::new().await;
    registry.script("HEAD *", Act::NoDigest);
    registry.script("HEAD *", Act::WrongLength(-10_000_000));
    let image = registry.push_image("team/app", "1", &[layer(5000, 8)]);
    let alice = bearer(&proxy.client(), ALICE, "team/app").await;
    for path in paths(&image) {
        assert_eq!(ask(&proxy.client(), "GET", &path, Some(&alice)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn who_might_read_lately_is_told_in_time_where_the_registry_fails_at_get_and_served_where_it_is_away() {
    let failures: [(Act, &[u16]); 2] = [(Act::Status(429), &[429]), (Act::Silence, &[503, 504])];
    for (act, failed) in failures {
        let mut lab = Lab::hasty(", grants: {life: 1s}").await;
        let image = lab.registry.push_image("team/app", "1", &[layer(5000, 9)]);
        lab.registry.script("HEAD *", Act::NoHead);
        let alice = lab.bearer(ALICE, "team/app").await;
        for path in paths(&image) {
            assert_eq!(lab.get(&path, Some(&alice)).await.status, 200);
        }
        lab.proxy.stored(&image.digest).await;
        lab.proxy.stored(&image.layers[0]).await;
        lab.registry.script("GET */team/*", act.clone());
        // That one thing fails can be brought about by whoever has lost a right: it prolongs none.
        for path in paths(&image) {
            until("its right has lapsed", async || {
                let answer = tokio::time::timeout(Duration::from_secs(15), lab.get(&path, Some(&alice))).await;
                let status = answer.map(|answer| answer.status.as_u16()).unwrap();
                assert!(status == 200 || failed.contains(&status), "{act:?} {path}: {status}");
                let head = ask(&lab.proxy.client(), "HEAD", &path, Some(&alice)).await.status.as_u16();
                assert!(head == 200 || failed.contains(&head), "{act:?} HEAD {path}: {head}");
                status != 200
            })
            .await;
        }
        lab.registry.stop();
        for path in paths(&image) {
            assert_eq!(lab.get(&path, Some(&alice)).await.status, 200, "{act:?} {path}: away");
        }
    }
}
