//! Podman, without a daemon, with plain folders.

use std::path::PathBuf;
use std::process::Command;

use super::{Client, PULL, Way, containers, id};
use crate::lab::{Person, run};

/// A storage of its own.
pub(crate) struct Podman {
    pub(super) home: PathBuf,
    pub(super) way: Way,
}

impl Podman {
    fn podman(&self) -> Command {
        let mut podman = containers("podman", &self.home, &self.way);
        podman.arg("--root").arg(self.home.join("root")).arg("--runroot").arg(self.home.join("run"));
        podman.arg("--tmpdir").arg(self.home.join("tmp")).args(["--storage-driver", "vfs"]);
        podman.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        podman
    }
}

impl Client for Podman {
    fn pull(&self, image: &str) -> Result<String, String> {
        let policy = self.home.join("policy.json");
        run(self.podman().args(["pull", "--quiet", "--signature-policy"]).arg(policy).arg(image), PULL)?;
        run(self.podman().args(["image", "inspect", "--format", "{{.Id}}", image]), PULL).map(|text| id(&text))
    }

    fn push(&self, image: &str, to: &str) -> Result<(), String> {
        let policy = self.home.join("policy.json");
        let mut push = self.podman();
        push.args(["push", "--quiet", "--signature-policy"]).arg(policy).args([image, &format!("docker://{to}")]);
        run(&mut push, PULL).map(drop)
    }

    fn remove(&self, _: &str) -> Result<(), String> {
        run(self.podman().args(["rmi", "--all", "--force"]), PULL).map(drop)
    }

    fn login(&mut self, registry: &str, person: Person) -> Result<(), String> {
        super::login(self.podman(), &self.home, registry, person)
    }
}
