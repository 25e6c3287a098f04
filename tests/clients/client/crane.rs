//! crane, of go-containerregistry: a client that speaks HTTP/2. It is no package of Debian; it takes part where it is
//! there (`go install github.com/google/go-containerregistry/cmd/crane@latest`).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, Way};
use crate::lab::{Lab, Person, command, digest, run};

const PULL: Duration = Duration::from_secs(120);

/// crane with a folder for its logins and its copies.
pub(crate) struct Crane {
    program: PathBuf,
    home: PathBuf,
    way: Way,
}

impl Crane {
    /// Where it is, if it is there.
    pub(crate) fn program() -> Option<PathBuf> {
        super::installed("crane")
    }

    /// One with these logins.
    pub(crate) fn fresh(lab: &Lab, way: &Way, logins: &[(&str, Person)]) -> Self {
        let home = lab.folder("crane");
        let auths: serde_json::Map<_, _> = logins
            .iter()
            .map(|(host, person)| {
                let host = if *host == "docker.io" { "https://index.docker.io/v1/" } else { host };
                (host.to_owned(), json!({ "auth": person.encoded() }))
            })
            .collect();
        fs::write(home.join("config.json"), json!({ "auths": auths }).to_string()).unwrap();
        Self { program: Self::program().unwrap_or_default(), home, way: way.clone() }
    }

    fn copy(&self) -> PathBuf {
        self.home.join("copy")
    }
}

impl Client for Crane {
    fn pull(&self, image: &str) -> Result<String, String> {
        let mut crane = command(&self.program.to_string_lossy(), &self.home);
        crane.env("HTTPS_PROXY", &self.way.proxy).env("SSL_CERT_FILE", &self.way.trust);
        crane.env("DOCKER_CONFIG", &self.home).args(["pull", "--format", "oci", "--platform", "linux/amd64", image]);
        run(crane.arg(self.copy()), PULL)?;
        let blobs = self.copy().join("blobs/sha256");
        let read = |digest: &Value| -> Result<Vec<u8>, String> {
            let name = digest.as_str().unwrap_or_default();
            let file = blobs.join(name.trim_start_matches("sha256:"));
            let content = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            if self::digest(&content) == name { Ok(content) } else { Err(format!("{name} of {image} has other bytes")) }
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|error| error.to_string());
        let index = parse(&fs::read(self.copy().join("index.json")).map_err(|error| error.to_string())?)?;
        let manifest = parse(&read(&index["manifests"][0]["digest"])?)?;
        for layer in manifest["layers"].as_array().into_iter().flatten() {
            read(&layer["digest"])?;
        }
        read(&manifest["config"]["digest"])?;
        Ok(manifest["config"]["digest"].as_str().unwrap_or_default().to_owned())
    }

    fn push(&self, image: &str, to: &str) -> Result<(), String> {
        let mut crane = command(&self.program.to_string_lossy(), &self.home);
        crane.env("HTTPS_PROXY", &self.way.proxy).env("SSL_CERT_FILE", &self.way.trust);
        run(crane.env("DOCKER_CONFIG", &self.home).args(["copy", image, to]), PULL).map(drop)
    }

    fn remove(&self, _: &str) -> Result<(), String> {
        match fs::remove_dir_all(self.copy()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Its logins are in its folder from the start.
    fn login(&mut self, _: &str, _: Person) -> Result<(), String> {
        Ok(())
    }
}
