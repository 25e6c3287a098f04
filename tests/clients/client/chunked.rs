//! Podman that fetches of zstd:chunked layers, by ranges, what it lacks.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Client, PULL, Way, containers, id};
use crate::lab::{Lab, Person, run};

/// Podman with partial pulls, which need a storage with layers of its own.
pub(crate) struct Chunked {
    home: PathBuf,
    way: Way,
}

impl Chunked {
    /// One that has never pulled anything.
    pub(crate) fn fresh(lab: &Lab, way: &Way) -> Self {
        let home = super::home(lab);
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/root\"\nrunroot = \"{0}/run\"\n[storage.options]\n\
             pull_options = {{enable_partial_images = \"true\", use_hard_links = \"false\", ostree_repos = \"\"}}\n",
            home.display()
        );
        fs::write(home.join("storage.conf"), storage).unwrap();
        Self { home, way: way.clone() }
    }

    /// The manifest of an image, as the registry has it.
    pub(crate) fn manifest(&self, image: &str) -> Result<String, String> {
        let mut skopeo = containers("skopeo", &self.home, &self.way);
        run(skopeo.args(["inspect", "--raw"]).arg(format!("docker://{image}")), PULL)
    }

    fn podman(&self) -> Command {
        let mut podman = containers("podman", &self.home, &self.way);
        podman.env("CONTAINERS_STORAGE_CONF", self.home.join("storage.conf"));
        podman.arg("--tmpdir").arg(self.home.join("tmp"));
        podman.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        podman
    }
}

impl Client for Chunked {
    fn pull(&self, image: &str) -> Result<String, String> {
        let policy = self.home.join("policy.json");
        run(self.podman().args(["pull", "--quiet", "--signature-policy"]).arg(policy).arg(image), PULL)
            .map(|text| id(&text))
    }

    fn remove(&self, _: &str) -> Result<(), String> {
        run(self.podman().args(["rmi", "--all", "--force"]), PULL).map(drop)
    }

    fn login(&mut self, registry: &str, person: Person) -> Result<(), String> {
        super::login(self.podman(), &self.home, registry, person)
    }
}

impl Drop for Chunked {
    fn drop(&mut self) {
        super::unmount(&self.home, "root/overlay");
    }
}
