//! The commands beside a proxy that pulls.

use std::process::Output;

use super::lab::Said;
use crate::store::content;
use crate::support::{Plan, Proxy, Registry, eventually, program};

/// The command over an in-process proxy's configuration.
fn beside(proxy: &Proxy, arguments: &[&str]) -> Said {
    let mut command = program(proxy.folder());
    command.arg("cache").args(arguments).args(["--config", "pullthrough.yaml"]);
    let Output { status, stdout, stderr } = tokio::task::block_in_place(|| command.output().unwrap());
    Said {
        status: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

const QUAY: &str = "quay.io:443";

async fn pulled() -> (Registry, Proxy) {
    let registry = Registry::start("quay.io");
    let proxy = Plan::new().registry(&registry, "tags: {fresh_for: 1h}, prefetch: off").start().await;
    (registry, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_from_a_running_server_is_asked_for_upstream() {
    let (registry, proxy) = pulled().await;
    let image = registry.push_image("org/app", "1", &[content(1, 5000)]);
    let pull = async || {
        proxy.client().get(QUAY, "/v2/org/app/manifests/1").await;
        let path = format!("/v2/org/app/blobs/{}", image.layers[0]);
        assert_eq!(proxy.client().get(QUAY, &path).await.bytes().len(), 5000);
        proxy.stored(&image.layers[0]).await;
    };
    pull().await;
    registry.forget();
    pull().await;
    assert_eq!(registry.requests().len(), 0, "all of it is in the cache");
    let said = beside(&proxy, &["rm", "quay.io/org/app:1"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(!proxy.blob_file(&image.layers[0]).exists() && !proxy.blob_file(&image.digest).exists());
    pull().await;
    assert_eq!((registry.count("GET */manifests/*"), registry.count("GET */blobs/*")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_pulled_after_the_pin_is_pinned_with_its_layers() {
    let (registry, proxy) = pulled().await;
    let arm = registry.push_image_for("arm64", "org/app", "arm", &[content(1, 5000)]);
    let index = registry.push_index("org/app", "1", &[&arm]);
    proxy.client().get(QUAY, "/v2/org/app/manifests/1").await;
    proxy.stored(&index).await;
    let said = beside(&proxy, &["pin", "quay.io/org/app:1"]);
    assert_eq!(said.status, 0, "{}", said.err);
    proxy.client().get(QUAY, &format!("/v2/org/app/manifests/{}", arm.digest)).await;
    proxy.client().get(QUAY, &format!("/v2/org/app/blobs/{}", arm.layers[0])).await;
    proxy.stored(&arm.layers[0]).await;
    eventually("the layer is listed", || {
        beside(&proxy, &["show", &arm.layers[0].to_string()]).out.contains("pinned     yes")
    })
    .await;
    let said = beside(&proxy, &["rm", "quay.io", "--dry-run"]);
    assert!(said.status == 1 && said.err.contains("is pinned"), "{}{}", said.out, said.err);
}
