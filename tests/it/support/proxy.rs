//! The proxy in process, on free ports, with a configuration over scripted registries.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pullthrough::config::{self, ConfigSources};
use pullthrough::oci::Digest;
use pullthrough::proxy::Door;
use pullthrough::server::Running;
use pullthrough::store::Disk;

use super::client::Client;
use super::configuration::Configuration;
use super::{Registry, Relay, eventually};

/// A configuration to be.
pub(crate) struct Plan {
    configuration: Configuration,
    hosts: Vec<String>,
    downloads: usize,
    idle: &'static str,
    listen: &'static str,
    doors: String,
    stall: Option<Duration>,
    disk: Disk,
}

/// A running proxy and its folders.
pub(crate) struct Proxy {
    running: Option<Running>,
    folder: tempfile::TempDir,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self {
            configuration: Configuration::default(),
            hosts: Vec::new(),
            downloads: 32,
            idle: "20s",
            listen: "127.0.0.1:0",
            doors: String::new(),
            stall: None,
            disk: Disk::default(),
        }
    }

    fn with(mut self, section: &'static str, entries: &str) -> Self {
        self.configuration.add(section, entries);
        self
    }

    /// Adds a registry under its own name. `more` are further keys of its body, in flow style: `push: allow`.
    pub(crate) fn registry(self, registry: &Registry, more: &str) -> Self {
        let (name, url) = (registry.name(), format!("https://{}", registry.name()));
        self.registry_as(name, &url, registry, more)
    }

    pub(crate) fn registry_as(self, name: &str, url: &str, registry: &Registry, more: &str) -> Self {
        let (address, ca_file) = (registry.address(), registry.ca_file());
        let endpoint = format!("{{url: '{url}', address: '{address}', ca_file: '{}'}}", ca_file.display());
        let comma = if more.is_empty() { "" } else { ", " };
        self.raw_registry(&format!("'{name}': {{endpoints: [{endpoint}]{comma}{more}}}"))
    }

    /// Adds a registry's entry as it is written in YAML, in flow style.
    pub(crate) fn raw_registry(self, yaml: &str) -> Self {
        self.with("registries", yaml)
    }

    /// Adds a registry that is reached through a relay.
    pub(crate) fn registry_through(self, relay: &Relay, name: &str, more: &str) -> Self {
        let (address, ca_file) = (relay.address(), super::lab::ca_file());
        let endpoint = format!("{{url: 'https://{name}', address: '{address}', ca_file: '{}'}}", ca_file.display());
        self.raw_registry(&format!("'{name}': {{endpoints: [{endpoint}]{more}}}"))
    }

    /// Adds how a single host is reached, through a relay.
    pub(crate) fn host_through(mut self, relay: &Relay, name: &str) -> Self {
        self.hosts.push(relay.host(name));
        self
    }

    /// Adds how a single host is reached.
    pub(crate) fn host(mut self, host: &str, server: &Registry) -> Self {
        let (address, ca_file) = (server.address(), server.ca_file());
        self.hosts.push(format!("'{host}': {{address: '{address}', ca_file: '{}'}}", ca_file.display()));
        self
    }

    /// Leaves an upstream that is silent for a second. Not for tests that hold an upstream back: on a busy
    /// machine they would be taken for silence.
    pub(crate) fn impatient(self) -> Self {
        Self { idle: "3s", ..self }
    }

    /// Listens there for clients instead of at 127.0.0.1.
    pub(crate) fn listening(self, listen: &'static str) -> Self {
        Self { listen, ..self }
    }

    /// Adds entries to the section `listen`, in flow style.
    pub(crate) fn doors(self, entries: &str) -> Self {
        Self { doors: format!("{}, {entries}", self.doors), ..self }
    }

    /// Listens as a registry mirror, too. `entries` are those of the section `mirror`, in flow style.
    pub(crate) fn mirror(self, entries: &str) -> Self {
        self.doors("mirror: '127.0.0.1:0'").with("mirror", entries)
    }

    /// Gives up a client that takes nothing for so long, instead of a minute.
    pub(crate) fn stall(self, stall: Duration) -> Self {
        Self { stall: Some(stall), ..self }
    }

    /// Over a disk that a test watches.
    pub(crate) fn disk(self, disk: Disk) -> Self {
        Self { disk, ..self }
    }

    /// Adds entries to the section `upstream`, in flow style, as those below do to theirs.
    pub(crate) fn upstream(self, entries: &str) -> Self {
        self.with("upstream", entries)
    }

    pub(crate) fn cache(self, entries: &str) -> Self {
        self.with("cache", entries)
    }

    pub(crate) fn clients(self, entries: &str) -> Self {
        self.with("clients", entries)
    }

    pub(crate) fn fill(self, entries: &str) -> Self {
        self.with("fill", entries)
    }

    pub(crate) fn log(self, entries: &str) -> Self {
        self.with("log", entries)
    }

    pub(crate) fn tunnel(self, entries: &str) -> Self {
        self.with("tunnel", entries)
    }

    /// How many downloads one host serves at a time.
    pub(crate) fn downloads_per_host(self, downloads: usize) -> Self {
        Self { downloads, ..self }
    }

    /// The configuration file of a proxy that lives in this folder.
    pub(crate) fn yaml(&self, folder: &Path) -> String {
        let mut file = self.configuration.clone();
        file.add("listen", format!("proxy: '{}', admin: '127.0.0.2:0'{}", self.listen, self.doors));
        file.add("ca", format!("dir: '{}/ca'", folder.display()));
        file.add("cache", format!("dir: '{}/cache'", folder.display()));
        if !file.has("cache", "min_free") {
            file.add("cache", "min_free: 0%"); // how full this machine's disk is decides nothing
        }
        file.add("upstream", format!("connect_timeout: 5s, idle_timeout: {}", self.idle));
        file.add("upstream", format!("downloads_per_host: {}", self.downloads));
        if !self.hosts.is_empty() {
            file.add("upstream", format!("hosts: {{{}}}", self.hosts.join(", ")));
        }
        file.to_string()
    }

    pub(crate) async fn start(self) -> Proxy {
        if std::env::var_os(pullthrough::telemetry::LEVEL_VARIABLE).is_some() {
            pullthrough::telemetry::init(&Default::default()); // for whoever looks for a fault
        }
        let folder = tempfile::tempdir().unwrap();
        self.start_in(folder).await
    }

    async fn start_in(self, folder: tempfile::TempDir) -> Proxy {
        std::fs::write(folder.path().join("pullthrough.yaml"), self.yaml(folder.path())).unwrap();
        let running = open(folder.path(), self.stall, self.disk).await;
        Proxy { running: Some(running), folder }
    }
}

async fn open(folder: &Path, stall: Option<Duration>, disk: Disk) -> Running {
    let sources = ConfigSources { config: Some(folder.join("pullthrough.yaml")), ..ConfigSources::default() };
    let mut settings = config::load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    settings.clients.stall = stall;
    Running::start_over(disk, settings, sources).await.unwrap()
}

impl Proxy {
    /// One with this configuration, made for the folder that it lives in.
    pub(crate) async fn of_yaml(yaml: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pullthrough.yaml"), yaml(folder.path())).unwrap();
        let running = open(folder.path(), None, Disk::default()).await;
        Self { running: Some(running), folder }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().proxy_address()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.running().admin_address()
    }

    /// Where this door is.
    pub(crate) fn door(&self, door: Door) -> SocketAddr {
        self.running().door_address(door).expect("it is open")
    }

    /// Where its mirror is.
    pub(crate) fn mirror(&self) -> SocketAddr {
        self.door(Door::Mirror)
    }

    /// A client of the mirror, which trusts the proxy's CA. Its sessions name the host of the mirror.
    pub(crate) fn mirror_client(&self) -> Client {
        Client::direct(self.mirror()).trusting(&self.ca_file())
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca/ca.crt")
    }

    /// Everything that it keeps.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client that uses the proxy and trusts its CA.
    pub(crate) fn client(&self) -> Client {
        Client::through(self.address(), &self.ca_file())
    }

    /// Writes another configuration and reloads it.
    pub(crate) async fn reload(&self, plan: Plan) {
        std::fs::write(self.folder.path().join("pullthrough.yaml"), plan.yaml(self.folder.path())).unwrap();
        self.running().reload().await;
    }

    /// Stops it and starts it again over the same folders.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.running = Some(open(self.folder.path(), None, Disk::default()).await);
    }

    pub(crate) async fn stop(&mut self) -> bool {
        match self.running.take() {
            Some(running) => running.stop(Duration::from_secs(10)).await,
            None => true,
        }
    }

    /// The file that a committed blob is.
    pub(crate) fn blob_file(&self, digest: &Digest) -> PathBuf {
        self.folder.path().join("cache/blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    pub(crate) async fn stored(&self, digest: &Digest) {
        let file = self.blob_file(digest);
        eventually("the blob is stored", || file.exists()).await;
    }

    /// How many blobs are stored, and how many are staged.
    pub(crate) fn files(&self) -> (usize, usize) {
        let count = |folder: &str| std::fs::read_dir(self.folder.path().join("cache").join(folder)).unwrap().count();
        (count("blobs/sha256"), count("fills"))
    }

    /// One metric's value, by its line's beginning; 0 where there is none.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let session = Client::through(self.admin(), &self.ca_file());
        let answer = session.plain_session(&self.admin().to_string()).await.get("/metrics").await;
        let text = String::from_utf8(answer.bytes().to_vec()).unwrap();
        let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }
}
