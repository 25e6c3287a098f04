//! zstd:chunked layers, which Podman pulls by ranges: right through the proxy, and from it alone the next time.

use std::time::Duration;

use serde_json::Value;

use crate::client::{Chunked, Client, Way};
use crate::lab::{Lab, Shape, eventually};
use crate::proxy::Proxy;

const NAME: &str = "quay.io/lab/chunked:1";

#[test]
fn podman_pulls_chunked_layers_by_ranges_and_the_next_one_without_the_registry() {
    let lab = Lab::new();
    let image = lab.publish(&[NAME], Shape::Chunked, 9, 3_000_000);
    let direct = Way::by_proxy(lab.road(), lab.ca_file());
    let manifest: Value = serde_json::from_str(&Chunked::fresh(&lab, &direct).manifest(NAME).unwrap()).unwrap();
    let layer = &manifest["layers"][0];
    let is_chunked = layer["annotations"]["io.containers.zstd-chunked.manifest-position"].is_string();
    assert!(is_chunked, "this Skopeo makes no chunked layers: {manifest}");

    let proxy = Proxy::start(&lab);
    assert_eq!(Chunked::fresh(&lab, &proxy.way()).pull(NAME).unwrap(), image.id);
    let digest = layer["digest"].as_str().unwrap();
    let is_part = |line: &str| line.contains(digest) && line.contains("206");
    assert!(proxy.log().lines().any(is_part), "it asked for ranges: {}", proxy.log());
    let all = "a manifest, a configuration and three layers are stored";
    eventually(all, Duration::from_secs(30), || proxy.verify_blobs() == 5);

    lab.quay.stop();
    assert_eq!(Chunked::fresh(&lab, &proxy.way()).pull(NAME).unwrap(), image.id);
}
