//! The proxy under test: the real binary with a configuration for the lab, killed and started again at will.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::Duration;

use pullthrough::telemetry::LEVEL_VARIABLE;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::Way;
use crate::lab::{EXAMPLE, Lab, Process, Registry, command, run};

/// The program that is tested, where it is another than the one that was built for it.
pub(crate) static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The program that is tested.
pub(crate) fn program() -> &'static str {
    PROGRAM.get().and_then(|path| path.to_str()).unwrap_or(env!("CARGO_BIN_EXE_pullthrough"))
}

/// A running proxy with a cache and a CA of its own.
pub(crate) struct Proxy {
    /// Where it keeps everything.
    pub(crate) dir: PathBuf,
    /// Its proxy port.
    pub(crate) listen: SocketAddr,
    /// Where its metrics are.
    pub(crate) admin: SocketAddr,
    level: &'static str,
    process: Option<Process>,
}

impl Proxy {
    /// Starts one with an empty cache that asks for a tag each time.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::with(lab, |_| {})
    }

    /// Starts one; `change` has the last word on its configuration.
    pub(crate) fn with(lab: &Lab, change: impl FnOnce(&mut Value)) -> Self {
        Self::at_level("info", lab, change)
    }

    /// The same, with a log of everything down to `level`.
    pub(crate) fn at_level(level: &'static str, lab: &Lab, change: impl FnOnce(&mut Value)) -> Self {
        let (listen, admin) = (free(), free());
        let dir = lab.folder("proxy");
        let mut config = configuration(lab, listen, admin);
        change(&mut config);
        fs::write(dir.join("config.yaml"), format!("{config:#}")).unwrap(); // JSON is YAML
        let mut proxy = Self { dir: dir.clone(), listen, admin, level, process: None };
        proxy.again();
        let roots = fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
        fs::write(dir.join("system.pem"), &roots).unwrap();
        fs::write(dir.join("trust.pem"), [roots, fs::read(proxy.ca_file()).unwrap()].concat()).unwrap();
        proxy
    }

    /// Starts it again, after [`Proxy::kill`], over the same folder; ready when this returns.
    pub(crate) fn again(&mut self) {
        let mut serve = command(program(), &self.dir);
        serve.args(["serve", "--config", "config.yaml"]).env(LEVEL_VARIABLE, self.level);
        let mut process = Process::spawn("pullthrough", &mut serve, &self.dir.join("log"));
        process.ready(Duration::from_secs(30), || {
            fetch(self.listen, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        self.process = Some(process);
    }

    /// Kills it at once (SIGKILL).
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal(Signal::KILL);
        assert!(process.ended(Duration::from_secs(10)).is_some(), "the killed proxy is still there");
    }

    /// Its process id while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn terminate(&self) {
        self.process.as_ref().unwrap().signal(Signal::TERM);
    }

    /// Changes its configuration and tells it to read that again (SIGHUP).
    pub(crate) fn reload(&self, change: impl FnOnce(&mut Value)) {
        self.edit(change);
        self.process.as_ref().unwrap().signal(Signal::HUP);
    }

    /// Changes the file of its configuration, and no more.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Value)) {
        let file = self.dir.join("config.yaml");
        let mut config = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut config);
        fs::write(&file, format!("{config:#}")).unwrap();
    }

    /// Its exit status, once it has ended by itself.
    pub(crate) fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        self.process.as_mut().unwrap().ended(within)
    }

    /// The way through it, for a client that trusts its CA besides the system's roots.
    pub(crate) fn way(&self) -> Way {
        self.way_trusting("trust.pem")
    }

    /// The way through it for a client that trusts only the system's roots.
    pub(crate) fn way_without_trust(&self) -> Way {
        self.way_trusting("system.pem")
    }

    fn way_trusting(&self, roots: &str) -> Way {
        Way::by_proxy(format!("http://{}", self.listen), self.dir.join(roots))
    }

    /// Its root certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca/ca.crt")
    }

    /// Its log, of every start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Its metrics, as scraped.
    pub(crate) fn metrics(&self) -> String {
        fetch(self.admin, "/metrics").expect("the admin port answers")
    }

    /// Hashes every committed blob with sha256sum; panics if one has not the bytes of its name. How many there are.
    pub(crate) fn verify_blobs(&self) -> usize {
        let blobs = self.dir.join("cache/blobs/sha256");
        let files: Vec<PathBuf> =
            fs::read_dir(&blobs).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        if files.is_empty() {
            return 0;
        }
        let sums = run(command("sha256sum", &self.dir).arg("--").args(&files), Duration::from_secs(60)).unwrap();
        for line in sums.lines() {
            let (sum, file) = line.split_once("  ").unwrap();
            assert_eq!(Path::new(file).file_name().unwrap().to_str(), Some(sum), "a committed blob is damaged");
        }
        assert_eq!(sums.lines().count(), files.len());
        files.len()
    }
}

/// An address that nobody listens on, another at each call.
pub(crate) fn free() -> SocketAddr {
    crate::lab::free(Ipv4Addr::LOCALHOST.into())
}

/// The whole answer to a GET, if there is one.
pub(crate) fn fetch(address: SocketAddr, path: &str) -> Option<String> {
    const PATIENCE: Duration = Duration::from_secs(30); // a restart may lie between the connection and its answer
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// A configuration for the lab, as JSON.
pub(crate) fn configuration(lab: &Lab, listen: SocketAddr, admin: SocketAddr) -> Value {
    let registry = |url: &str, registry: &Registry| {
        let endpoint = json!({ "url": url, "address": registry.site.address, "ca_file": lab.ca_file() });
        json!({ "endpoints": [endpoint], "tags": { "fresh_for": "0s" } })
    };
    let hosts = lab
        .hosts()
        .into_iter()
        .map(|(name, address)| (name.to_owned(), json!({ "address": address, "ca_file": lab.ca_file() })));
    json!({
        "listen": { "proxy": listen, "admin": admin },
        "cache": { "max_size": "2GiB", "min_free": "0%" },
        "registries": {
            "docker.io": registry("https://registry-1.docker.io", &lab.docker),
            "quay.io": registry("https://quay.io", &lab.quay),
            EXAMPLE: registry(&format!("https://{EXAMPLE}"), &lab.example),
        },
        "upstream": { "hosts": hosts.collect::<serde_json::Map<_, _>>() },
    })
}
