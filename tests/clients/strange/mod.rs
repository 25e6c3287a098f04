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

/// The clients of one way, each started once.
struct Clients(Vec<(&'static str, Box<dyn Client>)>);

impl Clients {
    fn new(lab: &Lab, way: &Way) -> Self {
        let mut clients: Vec<(_, Box<dyn Client>)> = vec![
            ("Docker", Kind::Docker.fresh(lab, way)),
            ("containerd", Kind::Containerd.fresh(lab, way)),
            ("Podman", Kind::Podman.fresh(lab, way)),
        ];
        match Crane::program() {
            Some(_) => clients.push(("crane", Box::new(Crane::fresh(lab, way, &[])))),
            None => println!("crane is not on this machine: its pulls are left out"),
        }
        Self(clients)
    }

    /// Each pulls, the one at `first` before the others; before each the registries begin their strangeness anew.
    fn pull(&self, lab: &Lab, case: &Case, image: &Image, name: &str, first: usize) -> Vec<Result<String, String>> {
        let count = self.0.len();
        let mut results: Vec<_> = (0..count).map(|_| Err("not asked".to_owned())).collect();
        for index in (0..count).map(|offset| (first + offset) % count) {
            let (_, client) = &self.0[index];
            case.begin(lab, image);
            results[index] = client.pull(name);
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
    let direct = Clients::new(&lab, &Way { proxy: lab.road().to_owned(), trust: lab.ca_file().to_owned() });
    let mut proxy = Proxy::start(&lab);
    let through = Clients::new(&lab, &proxy.way());
    let mut worse = Vec::new();
    let only = std::env::var("STRANGE").ok();
    for (index, case) in
        CASES.iter().enumerate().filter(|(_, case)| only.as_ref().is_none_or(|only| case.name.contains(only)))
    {
        let name = format!("{}/lab/strange{index}:1", case.registry);
        let published = case.published_at.unwrap_or(case.registry);
        let publish = |seed| lab.publish(&[&format!("{published}/lab/strange{index}:1")], Shape::Single, seed, BYTES);
        proxy = emptied(proxy);
        if case.moves {
            let old = publish(1_000 + index as u64);
            let (_, client) = &through.0[index % through.0.len()];
            assert_eq!(client.pull(&name).as_ref(), Ok(&old.id), "{}: before its tag moved", case.name);
            client.remove(&name).unwrap();
        }
        let image = publish(index as u64);
        let directly = direct.pull(&lab, case, &image, &name, index);
        let proxied = through.pull(&lab, case, &image, &name, index);
        let right = |result: &Result<String, String>| result.as_ref() == Ok(&image.id);
        if !directly.iter().any(right) {
            worse.push(format!("{}: nobody pulls directly, so this case shows nothing: {directly:?}", case.name));
        }
        for (((client, _), directly), proxied) in direct.0.iter().zip(&directly).zip(&proxied) {
            let word = |result| if right(result) { "yes" } else { "no" };
            println!("{:<56} {client:<12} directly: {:<4} through: {}", case.name, word(directly), word(proxied));
            if right(directly) && !right(proxied) {
                let said = proxied.as_ref().unwrap_or_else(|said| said);
                let said: String = said.chars().take(600).collect();
                worse.push(format!("{}: {client} fails through the proxy alone: {said}", case.name));
            }
        }
    }
    assert!(worse.is_empty(), "{}\n{}", worse.join("\n"), proxy.log());
}
