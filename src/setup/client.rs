//! Names the clients that can be set up.

use std::fmt;
use std::str::FromStr;

/// A program that pulls images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Docker Engine under systemd.
    Docker,
    /// containerd under systemd: the kubelet's pulls, nerdctl.
    Containerd,
    /// Podman.
    Podman,
    /// Skopeo.
    Skopeo,
    /// Buildah.
    Buildah,
    /// CRI-O under systemd.
    Crio,
    /// buildkitd under systemd, and the drivers of buildx.
    Buildkit,
    /// k3s, servers and agents.
    K3s,
    /// RKE2, servers and agents.
    Rke2,
    /// `MicroK8s`, the snap.
    Microk8s,
    /// The nodes of a kind cluster.
    Kind,
    /// GitLab Runner with the Docker executor.
    GitlabRunner,
    /// A shell's environment.
    Env,
}

/// An unknown name of a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown client; expected one of {}", ClientKind::names().join(", "))]
pub struct UnknownClient;

impl ClientKind {
    /// All clients.
    pub const ALL: [Self; 13] = [
        Self::Docker,
        Self::Containerd,
        Self::Podman,
        Self::Skopeo,
        Self::Buildah,
        Self::Crio,
        Self::Buildkit,
        Self::K3s,
        Self::Rke2,
        Self::Microk8s,
        Self::Kind,
        Self::GitlabRunner,
        Self::Env,
    ];

    /// Its name on the command line and below `/setup/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Podman => "podman",
            Self::Skopeo => "skopeo",
            Self::Buildah => "buildah",
            Self::Crio => "crio",
            Self::Buildkit => "buildkit",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Microk8s => "microk8s",
            Self::Kind => "kind",
            Self::GitlabRunner => "gitlab-runner",
            Self::Env => "env",
        }
    }

    /// Every name.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        Self::ALL.into_iter().map(Self::name).collect()
    }
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `systemd` is docker-registry-proxy's name for the script for Docker.
impl FromStr for ClientKind {
    type Err = UnknownClient;

    fn from_str(text: &str) -> Result<Self, UnknownClient> {
        let text = if text == "systemd" { "docker" } else { text };
        Self::ALL.into_iter().find(|client| client.name() == text).ok_or(UnknownClient)
    }
}
