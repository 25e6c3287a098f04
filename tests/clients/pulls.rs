//! Every client pulls from every registry: without the proxy, through it, again for another, with registries gone.

use std::collections::HashSet;

use crate::client::{Kind, Way};
use crate::lab::{EXAMPLE, Image, Lab, Shape};
use crate::proxy::Proxy;

/// The same repository and tag on each registry, with different content.
struct Published {
    lab: Lab,
    images: [(String, Image); 3],
}

impl Published {
    fn new() -> Self {
        let lab = Lab::new();
        let publish = |registry: &str, shape, seed| {
            let name = format!("{registry}/lab/app:1");
            let image = lab.publish(&[&name], shape, seed, 3_000_000);
            (name, image)
        };
        let images = [
            publish("docker.io", Shape::Index, 1),
            publish("quay.io", Shape::Single, 2),
            publish(EXAMPLE, Shape::Index, 3),
        ];
        Self { lab, images }
    }

    /// Those on registries without authentication.
    fn open(&self) -> &[(String, Image)] {
        &self.images[1..]
    }

    /// A client that never pulled before pulls `images`, and has the right ones.
    fn pull(&self, kind: Kind, way: &Way, images: &[(String, Image)]) {
        let client = kind.fresh(&self.lab, way);
        for (name, image) in images {
            let id = client.pull(name).unwrap_or_else(|said| panic!("{kind:?}, {name}: {said}"));
            assert_eq!(id, image.id, "{kind:?}, {name}");
        }
    }
}

#[test]
fn the_lab_stands_without_the_proxy() {
    let published = Published::new();
    let way = Way::by_proxy(published.lab.road(), published.lab.ca_file());
    for kind in Kind::ALL {
        published.pull(kind, &way, &published.images);
    }
}

#[test]
fn docker_pulls_cold_then_containerd_without_an_upstream_blob() {
    cold_then_again(Kind::Docker, Kind::Containerd);
}

#[test]
fn containerd_pulls_cold_then_podman_without_an_upstream_blob() {
    cold_then_again(Kind::Containerd, Kind::Podman);
}

#[test]
fn podman_pulls_cold_then_skopeo_without_an_upstream_blob() {
    cold_then_again(Kind::Podman, Kind::Skopeo);
}

#[test]
fn skopeo_pulls_cold_then_buildah_without_an_upstream_blob() {
    cold_then_again(Kind::Skopeo, Kind::Buildah);
}

#[test]
fn buildah_pulls_cold_then_docker_without_an_upstream_blob() {
    cold_then_again(Kind::Buildah, Kind::Docker);
}

fn cold_then_again(first: Kind, second: Kind) {
    let published = Published::new();
    let lab = &published.lab;
    let proxy = Proxy::start(lab);
    let way = proxy.way();
    let pushed = lab.registries().map(|(_, registry)| registry.blob_fetches().len());

    published.pull(first, &way, &published.images);
    let fetched = lab.registries().map(|(_, registry)| registry.blob_fetches());
    for (fetches, pushed) in fetched.iter().zip(pushed) {
        let mut once = HashSet::new();
        let twice: Vec<_> = fetches[pushed..].iter().filter(|seen| !once.insert((&seen.host, &seen.path))).collect();
        assert!(twice.is_empty(), "fetched twice: {twice:?}");
        assert!(!once.is_empty(), "the cold pull came from nowhere");
    }
    let asked = [&lab.quay, &lab.example].map(|registry| registry.blob_requests());

    published.pull(second, &way, &published.images);
    assert_eq!(lab.registries().map(|(_, registry)| registry.blob_fetches()), fetched);
    assert_eq!([&lab.quay, &lab.example].map(|registry| registry.blob_requests()), asked);
    assert!(proxy.verify_blobs() > 0);
}

#[test]
fn with_the_registries_gone_every_client_pulls_again() {
    let published = Published::new();
    let proxy = Proxy::start(&published.lab);
    for kind in Kind::ALL {
        published.pull(kind, &proxy.way(), published.open());
    }
    published.lab.quay.stop();
    published.lab.example.stop();
    for kind in Kind::ALL {
        published.pull(kind, &proxy.way(), published.open());
    }
}

#[test]
fn with_the_registries_gone_every_client_pulls_what_one_had_pulled() {
    let published = Published::new();
    let proxy = Proxy::start(&published.lab);
    published.pull(Kind::Skopeo, &proxy.way(), published.open());
    published.lab.quay.stop();
    published.lab.example.stop();
    for kind in Kind::ALL {
        published.pull(kind, &proxy.way(), published.open());
    }
    published.lab.quay.start();
    published.lab.example.start();
    published.pull(Kind::Skopeo, &proxy.way(), published.open());
}

#[test]
fn a_digest_of_one_registry_is_not_readable_through_another() {
    let published = Published::new();
    let proxy = Proxy::start(&published.lab);
    published.pull(Kind::Skopeo, &proxy.way(), &published.images);
    let client = Kind::Skopeo.fresh(&published.lab, &proxy.way());
    let [_, (_, on_quay), (_, on_example)] = &published.images;
    for (registry, image) in [("quay.io", on_example), (EXAMPLE, on_quay)] {
        let name = format!("{registry}/lab/app@{}", image.digest);
        let said = client.pull(&name).expect_err("another registry's digest was served");
        assert!(said.contains("manifest unknown"), "{name}: {said}");
    }
}

#[test]
fn what_is_not_there_is_told_by_every_client_as_without_the_proxy() {
    let published = Published::new();
    let proxy = Proxy::start(&published.lab);
    let direct = Way::by_proxy(published.lab.road(), published.lab.ca_file());
    for kind in Kind::ALL {
        let words = if kind == Kind::Containerd { "not found" } else { "manifest unknown" };
        for way in [&direct, &proxy.way()] {
            let client = kind.fresh(&published.lab, way);
            for name in ["quay.io/lab/app:none", "quay.io/lab/none:1"] {
                let said = client.pull(name).expect_err("nobody published it");
                assert!(said.contains(words), "{kind:?}, {name}, by {}: {said}", way.proxy);
            }
        }
    }
}
