//! Buildah, with plain folders.

use std::path::PathBuf;
use std::process::Command;

use super::{Client, PULL, Way, containers, id};
use crate::lab::{Person, run};

/// A storage of its own.
pub(crate) struct Buildah {
    pub(super) home: PathBuf,
    pub(super) way: Way,
}

impl Buildah {
    fn buildah(&self) -> Command {
        let mut buildah = containers("buildah", &self.home, &self.way);
        buildah.arg("--root").arg(self.home.join("root")).arg("--runroot").arg(self.home.join("run"));
        buildah.args(["--storage-driver", "vfs"]);
        buildah
    }
}

impl Client for Buildah {
    fn pull(&self, image: &str) -> Result<String, String> {
        let policy = self.home.join("policy.json");
        run(
            self.buildah().args(["pull", "--quiet", "--policy", "always", "--signature-policy"]).arg(policy).arg(image),
            PULL,
        )?;
        run(self.buildah().args(["inspect", "--type", "image", "--format", "{{.FromImageID}}", image]), PULL)
            .map(|text| id(&text))
    }

    fn remove(&self, _: &str) -> Result<(), String> {
        run(self.buildah().args(["rmi", "--all", "--force"]), PULL).map(drop)
    }

    fn login(&mut self, registry: &str, person: Person) -> Result<(), String> {
        super::login(self.buildah(), &self.home, registry, person)
    }
}
