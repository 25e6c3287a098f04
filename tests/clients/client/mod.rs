//! The real clients, each with a state of its own and nothing of this machine's configuration.
//!
//! A client is told the proxy by `HTTPS_PROXY` and what to trust by `SSL_CERT_FILE`, which is how all of them
//! (they are Go programs) are configured without touching the system's store.

mod buildah;
mod chunked;
mod containerd;
mod curl;
mod docker;
mod podman;
mod skopeo;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, OWNER, OWNER_ENCODED};

pub(crate) use chunked::Chunked;
pub(crate) use curl::Curl;
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
}

impl Way {
    fn apply(&self, command: &mut Command) {
        command.env("HTTPS_PROXY", &self.proxy).env("SSL_CERT_FILE", &self.trust);
    }
}

/// A client with some state.
pub(crate) trait Client {
    /// Pulls `image` and returns the id of what it then holds: the digest of the configuration for amd64. What it
    /// said, on failure.
    fn pull(&self, image: &str) -> Result<String, String>;
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
        match self {
            Self::Docker => Box::new(docker::Docker::start(home, way)),
            Self::Containerd => Box::new(containerd::Containerd::start(home, way)),
            Self::Podman => Box::new(podman::Podman { home, way: way.clone() }),
            Self::Skopeo => Box::new(Skopeo { home, way: way.clone(), credentials: None }),
            Self::Buildah => Box::new(buildah::Buildah { home, way: way.clone() }),
        }
    }
}

impl Kind {
    /// The same, logged in to Docker Hub as the lab's owner.
    pub(crate) fn fresh_owner(self, lab: &Lab, way: &Way) -> Box<dyn Client> {
        let home = home(lab);
        let auths = |host: &str| format!(r#"{{"auths": {{"{host}": {{"auth": "{OWNER_ENCODED}"}}}}}}"#);
        fs::write(home.join(AUTH_FILE), auths("docker.io")).unwrap();
        fs::create_dir(home.join("config")).unwrap();
        fs::write(home.join("config/config.json"), auths("https://index.docker.io/v1/")).unwrap();
        match self {
            Self::Docker => Box::new(docker::Docker::start(home, way)),
            Self::Containerd => {
                let mut client = containerd::Containerd::start(home, way);
                client.credentials = Some(OWNER);
                Box::new(client)
            }
            Self::Podman => Box::new(podman::Podman { home, way: way.clone() }),
            Self::Skopeo => Box::new(Skopeo { home, way: way.clone(), credentials: None }),
            Self::Buildah => Box::new(buildah::Buildah { home, way: way.clone() }),
        }
    }
}

/// A folder for a client's state, with the configuration that the containers/image family wants.
fn home(lab: &Lab) -> PathBuf {
    let home = lab.folder("client");
    fs::write(home.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    fs::write(home.join("registries.conf"), "").unwrap();
    home
}

/// A command of the containers/image family, with its own configuration.
fn containers(program: &str, home: &Path, way: &Way) -> Command {
    let mut command = crate::lab::command(program, home);
    way.apply(&mut command);
    command.env("CONTAINERS_REGISTRIES_CONF", home.join("registries.conf"));
    if home.join(AUTH_FILE).exists() {
        command.env("REGISTRY_AUTH_FILE", home.join(AUTH_FILE));
    }
    command
}

/// `sha256:` and the hexadecimal digits that a program printed.
fn id(text: &str) -> String {
    format!("sha256:{}", text.trim().trim_start_matches("sha256:"))
}
