//! With every upstream dead, and with every upstream accepting and never answering, every client pulls what is cached.

use std::time::Duration;

use crate::client::{Kind, Way};
use crate::lab::{EXAMPLE, Image, Lab, Shape, eventually};
use crate::proxy::Proxy;

/// A public image on each registry, pulled once by one client.
struct Pulled {
    lab: Lab,
    proxy: Proxy,
    images: Vec<(String, Image)>,
}

impl Pulled {
    fn new(registries: &[&str]) -> Self {
        let lab = Lab::new();
        let publish = |(seed, registry): (u64, &&str)| {
            let name = format!("{registry}/lab/app:1");
            let image = lab.publish(&[&name], Shape::Index, seed, 1_000_000);
            (name, image)
        };
        let images: Vec<_> = (1..).zip(registries).map(publish).collect();
        let proxy = Proxy::start(&lab);
        let pulled = Self { lab, proxy, images };
        pulled.all_pull(&[Kind::Skopeo], "once");
        pulled
    }

    /// Clients that never pulled before pull by tag and by digest.
    fn all_pull(&self, kinds: &[Kind], when: &str) {
        for kind in kinds {
            let client = kind.fresh(&self.lab, &self.way());
            for (name, image) in &self.images {
                let by_digest = name.replace(":1", &format!("@{}", image.digest));
                for name in [name, &by_digest] {
                    let id = client.pull(name).unwrap_or_else(|said| panic!("{when}, {kind:?}, {name}: {said}"));
                    assert_eq!(id, image.id, "{when}, {kind:?}, {name}");
                }
            }
        }
    }

    fn way(&self) -> Way {
        self.proxy.way()
    }

    /// How often a registry was found to be away: each time costs one deadline at most.
    fn outages(&self) -> usize {
        self.proxy.log().matches("the registry is away").count()
    }

    fn moved_tags_are_seen(&self) {
        for (name, _) in &self.images {
            let new = self.lab.publish(&[name], Shape::Single, 99, 1000);
            let client = Kind::Skopeo.fresh(&self.lab, &self.way());
            eventually("the registry is back", Duration::from_secs(90), || client.pull(name).as_ref() == Ok(&new.id));
        }
    }
}

/// One with a token service and a CDN, one with neither, one with a CDN.
const ALL: [&str; 3] = ["docker.io", "quay.io", EXAMPLE];

#[test]
fn with_every_upstream_stopped_every_client_pulls_also_after_a_restart_and_all_is_fresh_when_they_are_back() {
    let mut pulled = Pulled::new(&ALL);
    pulled.lab.stop_all();
    pulled.all_pull(&Kind::ALL, "stopped");
    pulled.proxy.kill();
    pulled.proxy.again();
    pulled.all_pull(&Kind::ALL, "stopped, after a restart");
    assert_eq!(pulled.outages(), 2 * pulled.images.len());
    pulled.lab.start_all();
    pulled.moved_tags_are_seen();
}

#[test]
fn with_every_upstream_silent_every_client_pulls_at_the_cost_of_one_deadline_for_each_registry() {
    let mut pulled = Pulled::new(&ALL);
    pulled.lab.silence_all();
    pulled.all_pull(&Kind::ALL, "silent");
    assert_eq!(pulled.outages(), pulled.images.len());
    pulled.proxy.kill();
    pulled.proxy.again();
    pulled.all_pull(&Kind::ALL, "silent, after a restart");
    assert_eq!(pulled.outages(), 2 * pulled.images.len());
    pulled.lab.start_all();
    pulled.moved_tags_are_seen();
}

#[test]
fn a_private_image_pulls_with_every_upstream_silent_for_whom_it_was_proven_to_and_for_nobody_else() {
    let lab = Lab::new();
    let name = "docker.io/private/app:1";
    let image = lab.publish(&[name], Shape::Index, 1, 1_000_000);
    let proxy = Proxy::start(&lab);
    assert_eq!(Kind::Skopeo.fresh_owner(&lab, &proxy.way()).pull(name), Ok(image.id.clone()));
    lab.silence_all();
    for kind in Kind::ALL {
        assert_eq!(kind.fresh_owner(&lab, &proxy.way()).pull(name), Ok(image.id.clone()), "{kind:?}");
        let said = kind.fresh(&lab, &proxy.way()).pull(name);
        assert!(said.is_err(), "{kind:?}: a private image was served to anybody");
    }
    lab.start_all();
    let client = Kind::Podman.fresh_owner(&lab, &proxy.way());
    let new = lab.publish(&[name], Shape::Single, 2, 1000);
    eventually("the registry is back", Duration::from_secs(90), || client.pull(name).as_ref() == Ok(&new.id));
}
