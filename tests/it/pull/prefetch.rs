//! Fetching ahead: the first whole layer brings its siblings, and nothing else does.

use pullthrough::oci::Digest;

use super::{QUAY, get, layer};
use crate::support::client::Session;
use crate::support::{Act, Gate, Image, Plan, Proxy, Registry, eventually};

const BLOBS: &str = "GET */blobs/sha*";

async fn image(more: &str) -> (Registry, Proxy, Image) {
    let registry = Registry::start("quay.io");
    let layers: Vec<Vec<u8>> = (0..4).map(|n| layer(30_000, 60 + n)).collect();
    let image = registry.push_image("org/app", "1", &layers);
    let proxy = Plan::new().registry(&registry, more).start().await;
    (registry, proxy, image)
}

async fn manifest(session: &mut Session, image: &Image) {
    assert_eq!(session.get(&format!("/v2/org/app/manifests/{}", image.digest)).await.status, 200);
}

fn blob(digest: &Digest) -> String {
    format!("/v2/org/app/blobs/{digest}")
}

/// What was begun has had its chance: another blob went all the way.
async fn settled(registry: &Registry, proxy: &Proxy) {
    let digest = registry.push_blob("org/other", layer(20_000, 69));
    proxy.client().get(QUAY, &format!("/v2/org/other/blobs/{digest}")).await;
    proxy.stored(&digest).await;
}

#[tokio::test]
async fn the_first_whole_layer_brings_the_others_and_the_configuration() {
    let (registry, proxy, image) = image("").await;
    let mut session = proxy.client().session(QUAY).await;
    manifest(&mut session, &image).await;
    session.get(&blob(&image.layers[1])).await;
    for digest in image.layers.iter().chain([&image.config]) {
        proxy.stored(digest).await;
    }
    assert_eq!(registry.count(BLOBS), 5, "each one once");
    for digest in &image.layers {
        assert_eq!(session.get(&blob(digest)).await.header("cache-status"), "pullthrough; hit");
    }
    assert_eq!((registry.count(BLOBS), registry.count("HEAD *")), (5, 0));
}

#[tokio::test]
async fn a_manifest_a_head_or_the_configuration_alone_brings_nothing() {
    let (registry, proxy, image) = image("").await;
    let mut session = proxy.client().session(QUAY).await;
    manifest(&mut session, &image).await;
    session.get("/v2/org/app/manifests/1").await;
    session.ask("HEAD", &blob(&image.layers[0]), &[]).await;
    session.get(&blob(&image.config)).await;
    settled(&registry, &proxy).await;
    assert_eq!(registry.count("GET /v2/org/app/blobs/*"), 1);
}

#[tokio::test]
async fn a_client_that_begins_with_ranges_is_fetched_nothing_ahead() {
    let (registry, proxy, image) = image("").await;
    let mut session = proxy.client().session(QUAY).await;
    manifest(&mut session, &image).await;
    get(&mut session, &blob(&image.layers[0]), &[("range", "bytes=0-")]).await;
    session.get(&blob(&image.layers[1])).await;
    settled(&registry, &proxy).await;
    assert_eq!(registry.count("GET /v2/org/app/blobs/*"), 2);
}

#[tokio::test]
async fn a_layer_whose_manifest_was_not_asked_for_here_brings_nothing() {
    let (registry, proxy, image) = image("").await;
    proxy.client().get(QUAY, &blob(&image.layers[0])).await;
    settled(&registry, &proxy).await;
    assert_eq!(registry.count("GET /v2/org/app/blobs/*"), 1);
}

#[tokio::test]
async fn a_registry_can_have_it_off() {
    let (registry, proxy, image) = image("prefetch: off").await;
    let mut session = proxy.client().session(QUAY).await;
    manifest(&mut session, &image).await;
    session.get(&blob(&image.layers[0])).await;
    settled(&registry, &proxy).await;
    assert_eq!(registry.count("GET /v2/org/app/blobs/*"), 1);
}

#[tokio::test]
async fn so_many_are_fetched_at_once_and_no_more() {
    let (registry, proxy, image) = image("prefetch: 2").await;
    let mut session = proxy.client().session(QUAY).await;
    manifest(&mut session, &image).await;
    let (client, path) = (proxy.client(), blob(&image.layers[0]));
    let first = client.get(QUAY, &path);
    let gate = Gate::new();
    registry.script("GET /v2/org/app/blobs/*", Act::Hold(1000, gate.clone()));
    let watching = async {
        // The configuration is shorter than what the gate lets pass.
        let begun = || registry.count("GET /v2/org/app/blobs/*");
        eventually("the client's own, the configuration and two layers", || begun() == 4).await;
        settled(&registry, &proxy).await;
        assert_eq!(begun(), 4);
        gate.open();
    };
    tokio::join!(first, watching);
    for digest in &image.layers {
        proxy.stored(digest).await;
    }
    eventually("all", || registry.count("GET /v2/org/app/blobs/*") == 5).await;
}

#[tokio::test]
async fn what_is_fetched_ahead_is_asked_for_with_the_callers_own_credentials_and_refused_with_them() {
    let (registry, proxy, image) = image("").await;
    registry.script(&format!("GET */blobs/{}", image.layers[3]), Act::Status(403));
    let mut session = proxy.client().session(QUAY).await;
    let secret = [("authorization", "Bearer mine")];
    get(&mut session, &format!("/v2/org/app/manifests/{}", image.digest), &secret).await;
    get(&mut session, &blob(&image.layers[0]), &secret).await;
    for digest in image.layers[..3].iter().chain([&image.config]) {
        proxy.stored(digest).await;
    }
    eventually("each was asked for", || registry.count(BLOBS) == 5).await;
    // What has none asks behind whether anybody may read there.
    let others = registry.requests().into_iter().filter(|seen| seen.method != "HEAD");
    assert!(others.into_iter().all(|seen| seen.headers["authorization"] == "Bearer mine"));
    assert!(!proxy.blob_file(&image.layers[3]).exists());
}
