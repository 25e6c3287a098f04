//! With every upstream dead, and with every upstream accepting and never answering, every client pulls what is cached.

use std::time::Duration;

use crate::client::{Client, Kind, Way};
use crate::lab::{ALICE, ALICE_THERE, BOB, BOB_THERE, EXAMPLE, Image, Lab, Person, Shape, eventually};
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
        self.proxy.log().matches("the registry is unreachable; cached content").count()
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

/// Alice's image behind a token service and one behind htpasswd, read by each client that she is logged in with.
struct Proven {
    lab: Lab,
    proxy: Proxy,
    images: [(String, Image); 2],
    clients: Vec<(Kind, Box<dyn Client>)>,
}

impl Proven {
    fn new() -> Self {
        let lab = Lab::guarded();
        let images = [(1, "docker.io"), (2, EXAMPLE)].map(|(seed, registry)| {
            let name = format!("{registry}/private/app:1");
            let image = lab.publish(&[&name], Shape::Index, seed, 1_000_000);
            (name, image)
        });
        let proxy = Proxy::start(&lab);
        let clients = Kind::ALL.map(|kind| {
            let mut client = kind.fresh(&lab, &proxy.way());
            for (registry, person) in LOGINS {
                client.login(registry, person).unwrap_or_else(|said| panic!("{kind:?}: {said}"));
            }
            (kind, client)
        });
        let proven = Self { lab, proxy, images, clients: clients.into() };
        proven.alice_pulls("at first");
        proven
    }

    fn alice_pulls(&self, when: &str) {
        for (kind, client) in &self.clients {
            for (name, image) in &self.images {
                assert_eq!(client.pull(name).as_ref(), Ok(&image.id), "{when}, {kind:?}, {name}");
            }
        }
    }

    /// Machines that never pulled, with these logins.
    fn machines(&self, logins: &[(&'static str, Person)]) -> [(Kind, Box<dyn Client>); 5] {
        Kind::ALL.map(|kind| (kind, kind.fresh_with(&self.lab, &self.proxy.way(), logins)))
    }

    /// For Alice by the clients that have pulled and by new ones, at the cost of one deadline for each registry.
    fn only_alice_pulls(&self) {
        self.alice_pulls("while all is away");
        for (kind, client) in self.machines(&LOGINS) {
            for (name, image) in &self.images {
                assert_eq!(client.pull(name).as_ref(), Ok(&image.id), "{kind:?}, {name}, a new machine");
            }
        }
        self.others_are_refused();
        assert_eq!(self.proxy.log().matches("the registry is unreachable; cached content").count(), self.images.len());
    }

    fn others_are_refused(&self) {
        for logins in [&[("docker.io", BOB), (EXAMPLE, BOB_THERE)][..], &[]] {
            for (kind, client) in self.machines(logins) {
                for (name, _) in &self.images {
                    assert!(client.pull(name).is_err(), "{kind:?}, {name}: served to {logins:?}");
                }
            }
        }
    }
}

const LOGINS: [(&str, Person); 2] = [("docker.io", ALICE), (EXAMPLE, ALICE_THERE)];

#[test]
fn a_private_image_pulls_with_every_upstream_silent_for_whom_it_was_proven_to_and_for_nobody_else() {
    let proven = Proven::new();
    proven.lab.silence_all();
    proven.only_alice_pulls();
    proven.lab.start_all();
    for (name, _) in &proven.images {
        let client = Kind::Podman.fresh_with(&proven.lab, &proven.proxy.way(), &LOGINS);
        let new = proven.lab.publish(&[name], Shape::Single, 9, 1000);
        eventually("the registry is back", Duration::from_secs(90), || client.pull(name).as_ref() == Ok(&new.id));
    }
}

#[test]
fn a_private_image_pulls_with_every_upstream_stopped_for_whom_it_was_proven_to_until_the_proxy_restarts() {
    let mut proven = Proven::new();
    proven.lab.stop_all();
    proven.only_alice_pulls();
    proven.proxy.kill();
    proven.proxy.again();
    proven.others_are_refused();
    let (name, _) = &proven.images[0];
    for (kind, client) in &proven.clients {
        assert!(client.pull(name).is_err(), "{kind:?}: rights are never written down");
    }
}
