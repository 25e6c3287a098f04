//! Skopeo: every pull is a copy into a new folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Client, PULL, Way, containers};
use crate::lab::{Lab, Person, digest, run};

/// Where copies go.
pub(crate) struct Skopeo {
    pub(super) home: PathBuf,
    pub(super) way: Way,
    pub(super) credentials: Option<Person>,
}

impl Skopeo {
    /// One that brings somebody's credentials along each time.
    pub(crate) fn with_credentials(lab: &Lab, way: &Way, person: Person) -> Self {
        Self { home: super::home(lab), way: way.clone(), credentials: Some(person) }
    }

    /// A folder with its configuration.
    pub(crate) fn home(lab: &Lab) -> PathBuf {
        super::home(lab)
    }

    /// The command of one copy, to be run by whoever needs it running.
    pub(crate) fn copy(home: &Path, way: &Way, image: &str, to: &Path) -> Command {
        let mut skopeo = containers("skopeo", home, way);
        skopeo.arg("--policy").arg(home.join("policy.json")).args(["--override-arch", "amd64", "copy", "--quiet"]);
        skopeo.arg(format!("docker://{image}")).arg(format!("dir:{}", to.display()));
        skopeo
    }
}

impl Client for Skopeo {
    fn pull(&self, image: &str) -> Result<String, String> {
        let to = tempfile::Builder::new().prefix("copy").tempdir_in(&self.home).unwrap().keep();
        let mut copy = Self::copy(&self.home, &self.way, image, &to);
        if let Some(person) = self.credentials {
            copy.arg("--src-creds").arg(person.pair());
        }
        run(&mut copy, PULL)?;
        let manifest: Value = serde_json::from_slice(&fs::read(to.join("manifest.json")).unwrap()).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for descriptor in layers.chain([&manifest["config"]]) {
            let name = descriptor["digest"].as_str().unwrap_or_default();
            let content = fs::read(to.join(name.trim_start_matches("sha256:"))).map_err(|error| error.to_string())?;
            if digest(&content) != name {
                return Err(format!("{name} of {image} has other bytes"));
            }
        }
        Ok(manifest["config"]["digest"].as_str().unwrap_or_default().to_owned())
    }
    fn remove(&self, _: &str) -> Result<(), String> {
        let copies = fs::read_dir(&self.home).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        for copy in
            copies.filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"copy")))
        {
            fs::remove_dir_all(&copy).map_err(|error| format!("{}: {error}", copy.display()))?;
        }
        Ok(())
    }

    fn login(&mut self, registry: &str, person: Person) -> Result<(), String> {
        super::login(containers("skopeo", &self.home, &self.way), &self.home, registry, person)
    }
}
