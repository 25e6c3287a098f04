//! Registries as they are: strange ones, pulled from by real clients, directly and through the proxy.
//!
//! Flow: `cases` lists what registries do, `quirk` makes a site of the lab do it. For each case Docker, containerd, Podman
//! and crane pull a new image directly and then through a proxy with an empty cache.
//! Scope: what real clients make of it. How many requests a case costs is told by tests/it, in process.
//! Never: an expectation of our own about a client. Where its direct pull succeeds, the pull through the proxy does, with the same image.

mod cases;
mod quirk;

use std::fs;

use crate::client::{Client, Crane, Kind, Way};
use crate::lab::{Image, Lab, Shape};
use crate::proxy::Proxy;

use cases::{CASES, Case};

/// The largest layer of a case's image: longer than what a cut leaves.
const BYTES: usize = 3_000_000;

/// The environment's name for a part of the name of the cases to try, by hand: all without it.
const ONLY: &str = "STRANGE";

/// The id of what a client pulled, or what it said; none where it was not asked.
type Pulled = Option<Result<String, String>>;

/// The clients of one way, each started once.
struct Clients {
    is_direct: bool,
    clients: Vec<(&'static str, Box<dyn Client>)>,
}

impl Clients {
    fn new(lab: &Lab, way: &Way, is_direct: bool) -> Self {
        let mut clients: Vec<(_, Box<dyn Client>)> = vec![
            ("Docker", Kind::Docker.fresh(lab, way)),
            ("containerd", Kind::Containerd.fresh(lab, way)),
            ("Podman", Kind::Podman.fresh(lab, way)),
        ];
        match Crane::program() {
            Some(_) => clients.push(("crane", Box::new(Crane::fresh(lab, way, &[])))),
            None => println!("crane is not on this machine: its pulls are left out"),
        }
        Self { is_direct, clients }
    }

    /// Each pulls, the one at `first` before the others; before each the registries begin their strangeness anew.
    fn pull(&self, (lab, case, image): (&Lab, &Case, &Image), name: &str, first: usize) -> Vec<Pulled> {
        let count = self.clients.len();
        let mut results: Vec<Pulled> = (0..count).map(|_| None).collect();
        for index in (0..count).map(|offset| (first + offset) % count) {
            let (kind, client) = &self.clients[index];
            if self.is_direct && case.docker_waits && *kind == "Docker" {
                continue;
            }
            case.begin(lab, image);
            results[index] = Some(client.pull(name));
            Case::end(lab);
            let _ = client.remove(name); // where nothing was pulled there is nothing to remove
        }
        results
    }
}

/// A proxy with an empty cache, at the address and with the CA of the one before.
fn emptied(mut proxy: Proxy) -> Proxy {
    proxy.kill();
    fs::remove_dir_all(proxy.dir.join("cache")).unwrap();
    proxy.again();
    proxy
}

#[test]
fn what_a_client_pulls_directly_it_pulls_through_the_proxy() {
    let lab = Lab::new();
    let direct = Clients::new(&lab, &Way::by_proxy(lab.road(), lab.ca_file()), true);
    let mut proxy = Proxy::start(&lab);
    let through = Clients::new(&lab, &proxy.way(), false);
    let mut worse = Vec::new();
    let only = std::env::var(ONLY).unwrap_or_default();
    for (index, case) in CASES.iter().enumerate().filter(|(_, case)| case.name.contains(&only)) {
        let name = format!("{}/lab/strange{index}:1", case.registry);
        let published = case.published_at.unwrap_or(case.registry);
        let publish = |seed| lab.publish(&[&format!("{published}/lab/strange{index}:1")], Shape::Single, seed, BYTES);
        proxy = emptied(proxy);
        if case.moves {
            let old = publish(1_000 + index as u64);
            let (_, client) = &through.clients[index % through.clients.len()];
            assert_eq!(client.pull(&name).as_ref(), Ok(&old.id), "{}: before its tag moved", case.name);
            client.remove(&name).unwrap();
        }
        let image = publish(index as u64);
        let directly = direct.pull((&lab, case, &image), &name, index);
        let proxied = through.pull((&lab, case, &image), &name, index);
        let right = |pulled: &Pulled| pulled.as_ref().map(|id| id.as_ref() == Ok(&image.id));
        // Docker is known to pull directly where it is not asked to, for the time that it takes.
        if directly.iter().all(|pulled| right(pulled) == Some(false)) {
            worse.push(format!("{}: nobody pulls directly, so this case shows nothing: {directly:?}", case.name));
        }
        for (((client, _), directly), proxied) in direct.clients.iter().zip(&directly).zip(&proxied) {
            let word = |pulled| right(pulled).map_or("-", |right| if right { "yes" } else { "no" });
            println!("{:<56} {client:<12} directly: {:<4} through: {}", case.name, word(directly), word(proxied));
            if right(directly) != Some(false) && right(proxied) != Some(true) {
                let said = format!("{proxied:?}");
                let said = said.get(said.len().saturating_sub(600)..).unwrap_or(&said);
                worse.push(format!("{}: {client} fails through the proxy alone: {said}", case.name));
            }
        }
    }
    assert!(worse.is_empty(), "{}\n{}", worse.join("\n"), proxy.log());
}
