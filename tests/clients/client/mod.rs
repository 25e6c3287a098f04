//! The real clients, each with a state of its own and nothing of this machine's configuration.
//!
//! A client is told the proxy by `HTTPS_PROXY` and what to trust by `SSL_CERT_FILE`, which is how all of them
//! (they are Go programs) are configured without touching the system's store.

mod buildah;
mod chunked;
mod containerd;
mod crane;
mod curl;
mod docker;
mod mirror;
mod podman;
mod question;
mod skopeo;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::lab::{Lab, Person, run};

pub(crate) use chunked::Chunked;
pub(crate) use crane::Crane;
pub(crate) use curl::Curl;
pub(crate) use mirror::{Hosts, Mirror};
pub(crate) use question::{Form, ask};
pub(crate) use skopeo::Skopeo;

/// A pull takes a second; this is for a machine that is busy.
const PULL: Duration = Duration::from_secs(120);

/// The credentials of a client of the containers/image family, in its home.
const AUTH_FILE: &str = "auth.json";

/// How a client reaches registries.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// `HTTPS_PROXY`.
    pub(crate) proxy: String,
    /// `SSL_CERT_FILE`: PEM.
    pub(crate) trust: PathBuf,
    /// The mirror that its own files name, if they name one.
    pub(crate) mirror: Option<Mirror>,
}

impl Way {
    /// By `HTTPS_PROXY` alone.
    pub(crate) fn by_proxy(proxy: impl Into<String>, trust: impl Into<PathBuf>) -> Self {
        Self { proxy: proxy.into(), trust: trust.into(), mirror: None }
    }

    /// Tells a program, by its environment.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("HTTPS_PROXY", &self.proxy).env("SSL_CERT_FILE", &self.trust);
    }
}

/// A client with some state.
pub(crate) trait Client: Send {
    /// Pulls `image` and returns the id of what it then holds: the digest of the configuration for amd64. What it
    /// said, on failure.
    fn pull(&self, image: &str) -> Result<String, String>;

    /// Pushes what it has pulled as `image` under the name `to`. What it said, on failure.
    fn push(&self, image: &str, to: &str) -> Result<(), String> {
        Err(format!("this client is not asked to push {image} to {to}"))
    }

    /// Removes everything that it has pulled, of which `image` was the last: the next pull fetches all of it again.
    fn remove(&self, image: &str) -> Result<(), String>;

    /// Logs in to a registry by the program's own command, and stays so. What it said, on failure.
    fn login(&mut self, registry: &str, person: Person) -> Result<(), String>;
}

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Containerd,
    Podman,
    Skopeo,
    Buildah,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Docker, Self::Containerd, Self::Podman, Self::Skopeo, Self::Buildah];

    /// One that has never pulled anything. Daemons are started here and end with it.
    pub(crate) fn fresh(self, lab: &Lab, way: &Way) -> Box<dyn Client> {
        let home = home(lab);
        way.mirror.iter().for_each(|mirror| mirror.write(&home));
        match self {
            Self::Docker => Box::new(docker::Docker::start(home, way)),
            Self::Containerd => Box::new(containerd::Containerd::start(home, way)),
            Self::Podman => Box::new(podman::Podman { home, way: way.clone() }),
            Self::Skopeo => Box::new(Skopeo { home, way: way.clone(), credentials: None }),
            Self::Buildah => Box::new(buildah::Buildah { home, way: way.clone() }),
        }
    }

    /// The same, of a machine that somebody was logged in on long ago: the files are there, nobody was asked.
    pub(crate) fn fresh_with(self, lab: &Lab, way: &Way, logins: &[(&'static str, Person)]) -> Box<dyn Client> {
        let home = home(lab);
        fs::write(home.join(AUTH_FILE), auths(logins.iter().map(|login| (login.0, login.1)))).unwrap();
        fs::create_dir(home.join("config")).unwrap();
        let docker = logins.iter().map(|(host, person)| match *host {
            "docker.io" => ("https://index.docker.io/v1/", *person),
            host => (host, *person),
        });
        fs::write(home.join("config/config.json"), auths(docker)).unwrap();
        let way = way.clone();
        match self {
            Self::Docker => Box::new(docker::Docker::start(home, &way)),
            Self::Containerd => {
                let mut client = containerd::Containerd::start(home, &way);
                client.logins = logins.iter().map(|(host, person)| ((*host).to_owned(), *person)).collect();
                Box::new(client)
            }
            Self::Podman => Box::new(podman::Podman { home, way }),
            Self::Skopeo => Box::new(Skopeo { home, way, credentials: None }),
            Self::Buildah => Box::new(buildah::Buildah { home, way }),
        }
    }
}

/// The file of logins that all of them but containerd have.
fn auths(logins: impl Iterator<Item = (&'static str, Person)>) -> String {
    let entries: serde_json::Map<_, _> =
        logins.map(|(host, person)| (host.to_owned(), json!({ "auth": person.encoded() }))).collect();
    json!({ "auths": entries }).to_string()
}

/// `login` of the containers/image family.
fn login(mut program: Command, home: &Path, registry: &str, person: Person) -> Result<(), String> {
    program.args(["login", "--username", person.name, "--password", person.password, "--authfile"]);
    run(program.arg(home.join(AUTH_FILE)).arg(registry), PULL).map(drop)
}

/// A folder for a client's state, with the configuration that the containers/image family wants.
fn home(lab: &Lab) -> PathBuf {
    let home = lab.folder("client");
    fs::write(home.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    fs::write(home.join("registries.conf"), "").unwrap();
    home
}

/// Takes down what a client has mounted on a folder of its own, which could not be removed else.
fn unmount(home: &Path, folder: &str) {
    let mut umount = crate::lab::command("umount", home);
    let _ = run(umount.arg("--lazy").arg(home.join(folder)), PULL); // there may be none
}

/// A command of the containers/image family, with its own configuration.
fn containers(program: &str, home: &Path, way: &Way) -> Command {
    let mut command = crate::lab::command(program, home);
    way.apply(&mut command);
    command.env("CONTAINERS_REGISTRIES_CONF", home.join("registries.conf"));
    if program == "skopeo" {
        command.arg("--registries-conf").arg(home.join("registries.conf")); // it does not look at the variable
    }
    if home.join(AUTH_FILE).exists() {
        command.env("REGISTRY_AUTH_FILE", home.join(AUTH_FILE));
    }
    command
}

/// Where a program is that Debian does not have: where `tests/run` puts it, on the search path, or where `go install` does.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let modern = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/modern");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join("go/bin"));
    let folders = [modern].into_iter().chain(std::env::split_paths(&path)).chain(home);
    folders.map(|folder| folder.join(program)).find(|file| file.exists())
}

/// `sha256:` and the hexadecimal digits that a program printed.
fn id(text: &str) -> String {
    format!("sha256:{}", text.trim().trim_start_matches("sha256:"))
}
