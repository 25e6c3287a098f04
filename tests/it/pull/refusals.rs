//! One refusal is not the end of a right: only a refusal of what is known to be there ends it, and it does so at once.

use std::time::Duration;

use super::private::{ALICE, BOB, Lab, ask};
use super::{QUAY, layer};
use crate::support::{Act, Gate, Image, Plan, Proxy, Registry, eventually, until};

const KEPT: &str = "tags: {fresh_for: 1h}, prefetch: off";

/// quay.io with one image that was pulled by nobody in particular.
async fn pulled() -> (Registry, Proxy, Image) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, KEPT).start().await;
    let image = registry.push_image("a", "1", &[layer(1000, 1), layer(1000, 2)]);
    for path in paths("a", &image) {
        assert_eq!(proxy.client().get(QUAY, &path).await.status, 200);
    }
    proxy.stored(&image.layers[0]).await;
    (registry, proxy, image)
}

fn paths(repository: &str, image: &Image) -> Vec<String> {
    let tag = format!("/v2/{repository}/manifests/1");
    let manifest = format!("/v2/{repository}/manifests/{}", image.digest);
    let layers = image.layers.iter().map(|layer| format!("/v2/{repository}/blobs/{layer}"));
    [tag, manifest].into_iter().chain(layers).collect()
}

fn absent(number: u64) -> [String; 3] {
    let digest = format!("sha256:{number:064x}");
    [format!("none{number}"), digest.clone(), digest].map(|reference| format!("/v2/a/manifests/{reference}"))
}

async fn served_without_asking(registry: &Registry, proxy: &Proxy, image: &Image, how: &str) {
    registry.forget();
    for path in paths("a", image) {
        assert_eq!(proxy.client().get(QUAY, &path).await.status, 200, "{how}: {path}");
    }
    // A refusal in a pause is checked when that ends: by one HEAD.
    let asked = registry.requests();
    assert!(asked.len() <= 1 && asked.iter().all(|seen| seen.method == "HEAD"), "{how}: {asked:?}");
}

#[tokio::test]
async fn what_is_refused_for_one_reference_closes_no_public_repository() {
    for status in [401, 403, 404] {
        let (registry, proxy, image) = pulled().await;
        registry.script("*/a/manifests/none*", Act::Status(status));
        registry.script("*/a/manifests/sha256:000*", Act::Status(status));
        registry.script("*/a/blobs/sha256:000*", Act::Status(status));
        for path in absent(1).into_iter().chain([absent(2)[1].replace("manifests", "blobs")]) {
            for method in ["GET", "HEAD"] {
                let answer = proxy.client().session(QUAY).await.ask(method, &path, &[]).await;
                assert_eq!(answer.status, status, "{method} {path}");
            }
            served_without_asking(&registry, &proxy, &image, &format!("{status} {path}")).await;
        }
    }
}

#[tokio::test]
async fn a_flood_of_absent_references_costs_few_other_requests() {
    let (registry, proxy, image) = pulled().await;
    registry.script("*/a/manifests/none*", Act::Status(403));
    registry.forget();
    for number in 0..60 {
        assert_eq!(proxy.client().get(QUAY, &absent(number)[0]).await.status, 403);
    }
    let others = registry.requests().len() - registry.count("*/a/manifests/none*");
    assert!((1..=8).contains(&others), "{others}: at once, and after pauses that double");
    served_without_asking(&registry, &proxy, &image, "after the flood").await;
}

#[tokio::test]
async fn a_repository_that_is_closed_is_closed_by_the_first_refusal_of_anything() {
    for status in [401, 403, 404] {
        let (registry, proxy, image) = pulled().await;
        registry.script("*/a/manifests/none*", Act::Status(403));
        registry.script("*", Act::Status(status));
        assert_ne!(proxy.client().get(QUAY, &absent(1)[0]).await.status, 200);
        for path in paths("a", &image).into_iter().skip(1) {
            assert_eq!(proxy.client().get(QUAY, &path).await.status, status, "{path}");
        }
    }
}

#[tokio::test]
async fn what_was_known_and_is_gone_speaks_for_nothing_else() {
    let (registry, proxy, image) = pulled().await;
    // What was proven last is gone, and refused as many registries refuse what is absent.
    registry.script(&format!("*/a/blobs/{}", image.layers[1]), Act::Status(403));
    registry.script("*/a/manifests/none*", Act::Status(403));
    assert_eq!(proxy.client().get(QUAY, &absent(1)[0]).await.status, 403);
    served_without_asking(&registry, &proxy, &image, "one is gone").await;
}

#[tokio::test]
async fn a_throttle_or_a_fault_at_what_is_known_ends_nothing() {
    for act in [Act::Status(429), Act::Status(500), Act::Reset] {
        let (registry, proxy, image) = pulled().await;
        registry.script("*/a/manifests/none*", Act::Status(403));
        registry.script("*/a/blobs/*", act.clone());
        assert_eq!(proxy.client().get(QUAY, &absent(1)[0]).await.status, 403);
        served_without_asking(&registry, &proxy, &image, &format!("{act:?}")).await;
    }
}

#[tokio::test]
async fn a_public_repository_stays_so_after_a_restart_too() {
    for is_closed in [false, true] {
        let (registry, mut proxy, image) = pulled().await;
        proxy.restart().await;
        registry.script("*/a/manifests/none*", Act::Status(403));
        if is_closed {
            registry.script("*", Act::Status(403));
        }
        assert_eq!(proxy.client().get(QUAY, &absent(1)[0]).await.status, 403);
        if is_closed {
            let path = &paths("a", &image)[1];
            assert_eq!(proxy.client().get(QUAY, path).await.status, 403);
        } else {
            served_without_asking(&registry, &proxy, &image, "after a restart").await;
        }
    }
}

#[tokio::test]
async fn what_is_refused_for_one_reference_ends_no_grant_and_opens_nothing_to_others() {
    for status in [401, 403, 404] {
        let lab = Lab::new(", prefetch: off").await;
        let image = lab.registry.push_image("team/app", "1", &[layer(1000, 1)]);
        let (alice, bob) = (lab.bearer(ALICE, "team/app").await, lab.bearer(BOB, "team/app").await);
        let all = paths("team/app", &image);
        for path in &all {
            assert_eq!(lab.get(path, Some(&alice)).await.status, 200);
        }
        lab.proxy.stored(&image.layers[0]).await;
        let absent = lab.registry.script("*/team/app/manifests/none", Act::Status(status));
        for _ in 0..3 {
            assert_eq!(lab.get("/v2/team/app/manifests/none", Some(&alice)).await.status, status);
        }
        lab.registry.forget();
        for path in &all {
            assert_eq!(lab.get(path, Some(&alice)).await.status, 200, "{status} {path}");
            assert_ne!(lab.get(path, Some(&bob)).await.status, 200, "{status} {path}");
            assert_ne!(lab.get(path, None).await.status, 200, "{status} {path}");
        }
        let hers =
            |seen: &crate::support::Seen| seen.headers.get("authorization").is_some_and(|value| *value == *alice);
        let asked: Vec<_> = lab.registry.requests().into_iter().filter(hers).collect();
        assert!(asked.len() <= 1 && asked.iter().all(|seen| seen.method == "HEAD"), "{status}: {asked:?}");
        // And once it is withdrawn, the same refusal ends it. (A 404 is the truth to who has credentials.)
        lab.registry.unscript(absent);
        lab.tokens.revoke_all();
        assert_eq!(lab.get("/v2/team/app/manifests/none", Some(&alice)).await.status, 401);
        // At once, or after the pause that a flood would have.
        for path in &all {
            until("it ends", async || lab.get(path, Some(&alice)).await.status == 401).await;
        }
    }
}

#[tokio::test]
async fn a_refusal_elsewhere_takes_nothing_from_a_fill_under_way() {
    let lab = Lab::new(", prefetch: off").await;
    let image = lab.registry.push_image("team/app", "1", &[layer(300_000, 1)]);
    let alice = lab.bearer(ALICE, "team/app").await;
    let [tag, _, blob] = &paths("team/app", &image)[..] else { unreachable!() };
    assert_eq!(lab.get(tag, Some(&alice)).await.status, 200);
    let gate = Gate::new();
    lab.registry.script("GET */blobs/*", Act::Hold(100_000, gate.clone()));
    lab.registry.script("*/manifests/none", Act::Status(403));
    let first = tokio::spawn({
        let (client, blob, alice) = (lab.proxy.client(), blob.clone(), alice.clone());
        async move { ask(&client, "GET", &blob, Some(&alice)).await }
    });
    eventually("it is under way", || lab.registry.count(&format!("GET {blob}")) > 0).await;
    assert_eq!(lab.get("/v2/team/app/manifests/none", Some(&alice)).await.status, 403);
    let second = tokio::spawn({
        let (client, blob, alice) = (lab.proxy.client(), blob.clone(), alice.clone());
        async move { ask(&client, "GET", &blob, Some(&alice)).await }
    });
    tokio::time::timeout(Duration::from_secs(20), async {
        gate.open();
        for one in [first.await.unwrap(), second.await.unwrap()] {
            assert!(one.status == 200 && *one.bytes() == layer(300_000, 1));
        }
    })
    .await
    .unwrap();
    let asked = lab.registry.requests();
    let hers = |seen: &crate::support::Seen| seen.headers.get("authorization").is_some_and(|value| *value == *alice);
    let blobs = asked.iter().filter(|seen| seen.path == *blob && hers(seen));
    let whole = blobs.clone().filter(|seen| !seen.headers.contains_key("range")).count();
    assert_eq!((whole, blobs.filter(|seen| seen.method == "HEAD").count()), (1, 0), "nothing is proven anew");
}
