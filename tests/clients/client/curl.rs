//! curl: one blob, when a test needs a client that does nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Way;
use crate::lab::{Person, Process, command};

/// A download under way.
pub(crate) struct Curl {
    process: Process,
    file: PathBuf,
}

impl Curl {
    /// Starts fetching `url` into a file in `home`, which is there from the first byte on.
    pub(crate) fn new(home: &Path, way: &Way, url: &str) -> Self {
        Self::start(home, way, None, url)
    }

    /// The same with somebody's password.
    pub(crate) fn as_person(home: &Path, way: &Way, person: Person, url: &str) -> Self {
        Self::start(home, way, Some(person), url)
    }

    fn start(home: &Path, way: &Way, person: Option<Person>, url: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("curl").tempdir_in(home).unwrap().keep();
        let mut curl = command("curl", &dir);
        curl.args(["--silent", "--show-error", "--fail", "--no-buffer", "--output", "body", "--proxy", &way.proxy]);
        if let Some(person) = person {
            curl.args(["--user", &person.pair()]);
        }
        curl.arg("--cacert").arg(&way.trust).arg(url);
        Self { process: Process::spawn("curl", &mut curl, &dir.join("log")), file: dir.join("body") }
    }

    /// How many bytes have come.
    pub(crate) fn received(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |metadata| metadata.len())
    }

    /// Everything, once it has come; what curl said, where it failed.
    pub(crate) fn body(&mut self, within: Duration) -> Result<Vec<u8>, String> {
        match self.process.ended(within) {
            Some(status) if status.success() => Ok(fs::read(&self.file).unwrap_or_default()),
            status => Err(format!("{status:?}: {}", self.process.log())),
        }
    }
}
