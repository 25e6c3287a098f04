//! Registries whose HEAD is refused or says too little: each caller's right is told by its own GET.

use super::layer;
use super::private::{ALICE, BOB, CAROL, Lab, ask, bearer};
use crate::support::{Act, Gate, Image, Plan, Proxy, Registry, Seen, Setup, Tokens, eventually};

/// HEAD is not taken; or it says no digest; or nothing at all.
fn heads() -> [Vec<Act>; 3] {
    [vec![Act::NoHead], vec![Act::NoDigest], vec![Act::NoDigest, Act::NoLength]]
}

/// A registry with tokens of its own behind a mirror that anybody may read.
struct Mirrored {
    registry: Registry,
    mirror: Registry,
    proxy: Proxy,
    _auth: Registry,
}

impl Mirrored {
    async fn new() -> Self {
        let tokens = Tokens::new().user("alice", "secret-a", &["team/*"]).user("bob", "secret-b", &[]);
        let auth = Registry::start("auth.example.com");
        auth.serve_tokens(&tokens);
        let registry = Registry::start("registry.example.com");
        registry.require_token(&tokens, "https://auth.example.com/token");
        let mirror = registry.sibling(Setup::named("mirror.internal"));
        let endpoint = |server: &Registry| {
            let (name, address, ca_file) = (server.name(), server.address(), server.ca_file());
            format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca_file.display())
        };
        let both = format!(
            "'registry.example.com': {{token_hosts: [auth.example.com], endpoints: [{}, {}]}}",
            endpoint(&mirror),
            endpoint(&registry)
        );
        let proxy = Plan::new().raw_registry(&both).host("auth.example.com", &auth).start().await;
        Self { registry, mirror, proxy, _auth: auth }
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
