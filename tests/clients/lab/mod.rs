//! A small internet on loopback addresses: three registries, a token service and two CDN hosts, by real names.
//!
//! Each name is a [`Site`]: TLS with the lab's own CA, a count of every request, a pace, and a way to be gone.
//! Behind it runs the real program (distribution, nginx). Everything lives in one temporary folder and ends with
//! the [`Lab`]. Nothing here knows the proxy: [`Road`] leads to the same sites without it, so that a fault of the
//! lab shows as one (`the_lab_stands_without_the_proxy`).

mod authority;
mod image;
mod people;
mod ports;
mod process;
mod registry;
mod road;
mod site;
mod token;

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) use image::{Image, Shape, digest};
pub(crate) use people::{ALICE, ALICE_THERE, BOB, BOB_THERE, OWNER, Person};
pub(crate) use ports::free;
pub(crate) use process::{Process, command, eventually, run};
pub(crate) use registry::Registry;
pub(crate) use site::{Body, Quirk, Seen, Site, once_each, plain};

use authority::Authority;
use people::Accounts;
use registry::{Doorkeeper, Plan};
use road::Road;
use site::Origin;
use token::TokenService;

/// Who may use the third registry.
const HTPASSWD: &str = "htpasswd";

/// The third registry: neither a preset nor on port 443.
pub(crate) const EXAMPLE: &str = "registry.example.com:5000";

/// The lab. Dropping it ends every program and server of it.
pub(crate) struct Lab {
    /// Docker Hub: a token service, blobs redirected to a CDN.
    pub(crate) docker: Registry,
    /// auth.docker.io.
    pub(crate) token: Site,
    /// quay.io: no authentication, no redirect.
    pub(crate) quay: Registry,
    /// registry.example.com:5000: blobs redirected to a CDN; htpasswd ([`Lab::guarded`]), or no authentication.
    pub(crate) example: Registry,
    accounts: Arc<Accounts>,
    road: Road,
    authority: Authority,
    _runtime: Runtime,
    dir: TempDir, // last: removed when everything in it has ended
}

impl Lab {
    /// Starts everything, without images.
    pub(crate) fn new() -> Self {
        Self::with(false)
    }

    /// The same, with the third registry behind htpasswd.
    pub(crate) fn guarded() -> Self {
        Self::with(true)
    }

    fn with(guarded: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("lab").tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        let authority = Authority::new(dir.path());
        let accounts = Arc::new(Accounts::new());
        let passwords = dir.path().join(HTPASSWD);
        write_passwords(&passwords, &[OWNER, ALICE_THERE]);
        let (service, tokens) = TokenService::new(dir.path(), Arc::clone(&accounts));
        let ip = |last| IpAddr::from(Ipv4Addr::new(127, 0, 10, last));
        let registry = |folder: &str, plan: &Plan<'_>| Registry::new(dir.path().join(folder), handle, &authority, plan);
        let docker = registry(
            "docker",
            &Plan {
                name: "registry-1.docker.io",
                ip: ip(1),
                cdn: Some("production.cloudflare.docker.com"),
                doorkeeper: Doorkeeper::Tokens(&tokens),
            },
        );
        let token = Site::new(handle, &authority, "auth.docker.io", ip(2), Origin::Token(service));
        let quay = registry("quay", &Plan { name: "quay.io", ip: ip(3), cdn: None, doorkeeper: Doorkeeper::None });
        let doorkeeper = if guarded { Doorkeeper::Passwords(&passwords) } else { Doorkeeper::None };
        let example = registry(
            "example",
            &Plan { name: "registry.example.com", ip: ip(4), cdn: Some("cdn.example.com"), doorkeeper },
        );
        let mut ways = HashMap::from([
            ("auth.docker.io:443".to_owned(), token.address),
            ("registry-1.docker.io:443".to_owned(), docker.site.address),
            ("index.docker.io:443".to_owned(), docker.site.address), // as crane calls it
            ("quay.io:443".to_owned(), quay.site.address),
            (EXAMPLE.to_owned(), example.site.address),
        ]);
        for cdn in [&docker.cdn, &example.cdn].into_iter().flatten() {
            ways.insert(format!("{}:443", cdn.name()), cdn.address);
        }
        let road = Road::new(handle, ways);
        Self { docker, token, quay, example, accounts, road, authority, _runtime: runtime, dir }
    }

    /// A new folder in the lab's own.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = tempfile::Builder::new().prefix(name).tempdir_in(self.dir.path()).unwrap();
        folder.keep()
    }

    /// Makes an image and pushes it, on the plain road, to each of `names`.
    pub(crate) fn publish(&self, names: &[&str], shape: Shape, seed: u64, bytes: usize) -> Image {
        let image = Image::make(&self.folder("image"), shape, seed, bytes);
        for name in names {
            image.push(name, &self.road.url, self.ca_file()).unwrap();
        }
        image
    }

    /// The lab's root certificate, PEM.
    pub(crate) fn ca_file(&self) -> &Path {
        &self.authority.file
    }

    /// A certificate of the lab's root for `name`, and its key, as files in `dir`.
    pub(crate) fn certificate(&self, name: &str, dir: &Path) -> (PathBuf, PathBuf) {
        self.authority.files(name, dir)
    }

    /// The way to the registries without the proxy: what `HTTPS_PROXY` would be.
    pub(crate) fn road(&self) -> &str {
        &self.road.url
    }

    /// Each registry by the name that images have.
    pub(crate) fn registries(&self) -> [(&'static str, &Registry); 3] {
        [("docker.io", &self.docker), ("quay.io", &self.quay), (EXAMPLE, &self.example)]
    }

    /// Takes from Alice, on each registry, the right to read what is private. The one behind htpasswd knows no such
    /// rights, and forgets her.
    pub(crate) fn withdraw_alice(&self) {
        self.accounts.withdraw(ALICE);
        write_passwords(&self.dir.path().join(HTPASSWD), &[OWNER]);
    }

    /// Removes Alice from the token service.
    pub(crate) fn remove_alice(&self) {
        self.accounts.remove(ALICE);
    }

    /// Every token that the token service has handed to somebody it knows, refresh tokens included.
    pub(crate) fn issued_tokens(&self) -> Vec<String> {
        self.accounts.issued()
    }

    /// Every registry, every CDN and the token service go off the net.
    pub(crate) fn stop_all(&self) {
        self.token.stop();
        self.registries().into_iter().for_each(|(_, registry)| registry.stop());
    }

    /// All of them take connections from now on and say nothing.
    pub(crate) fn silence_all(&self) {
        self.token.fall_silent();
        self.registries().into_iter().for_each(|(_, registry)| registry.fall_silent());
    }

    /// All of them are back.
    pub(crate) fn start_all(&self) {
        self.token.stop();
        self.token.start();
        self.registries().into_iter().for_each(|(_, registry)| registry.start());
    }

    /// Forgets every request that a host has seen so far.
    pub(crate) fn forget(&self) {
        self.token.forget();
        for (_, registry) in self.registries() {
            registry.site.forget();
            registry.cdn.iter().for_each(Site::forget);
        }
    }

    /// Each host that is no registry.
    pub(crate) fn hosts(&self) -> Vec<(&str, SocketAddr)> {
        let cdns = self.registries().into_iter().filter_map(|(_, registry)| registry.cdn.as_ref());
        cdns.chain([&self.token]).map(|site| (site.name(), site.address)).collect()
    }
}

/// bcrypt at its least cost: distribution hashes at each request.
fn write_passwords(file: &Path, people: &[Person]) {
    let line = |person: &Person| format!("{}:{}\n", person.name, bcrypt::hash(person.password, 4).unwrap());
    let new = file.with_extension("new");
    fs::write(&new, people.iter().map(line).collect::<String>()).unwrap();
    fs::rename(new, file).unwrap(); // distribution reads it again when its time changes, and never a half of it
}
