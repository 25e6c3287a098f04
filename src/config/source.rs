//! Defines where a configuration comes from, and finds the file when none is named.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::mistakes::mistake::ValueSource;
use super::mistakes::report::Report;
use super::predecessor;
use crate::setup;

/// The variable in which systemd names the folder of `LoadCredential=` (systemd.exec(5), "Credentials").
pub(super) const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A configuration is a page of text; a larger file is something else.
const LIMIT: u64 = 1 << 20;

/// The values of flags, which override the file and the environment. Text, so that a mistake is reported like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
    /// `--admin`
    pub admin: Option<String>,
    /// `--mirror`
    pub mirror: Option<String>,
    /// `--cache-dir`
    pub cache_dir: Option<String>,
    /// `--ca-dir`
    pub ca_dir: Option<String>,
}

/// All sources of a configuration. Its `Debug` shows no value of the environment: one may hold passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigSources {
    /// `--config`: this file and no other.
    pub config: Option<PathBuf>,
    /// The files to try when none is named; the first that exists is used.
    pub defaults: Vec<PathBuf>,
    /// The environment: variables that begin with `PULLTHROUGH_`, and those of docker-registry-proxy, which apply only if
    /// there is no file.
    pub environment: BTreeMap<String, OsString>,
    /// The folder that is searched for docker-registry-proxy's volumes if there is no configuration file.
    pub volumes: Option<PathBuf>,
    /// Flags.
    pub overrides: Overrides,
}

impl fmt::Debug for ConfigSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigSources")
            .field("config", &self.config)
            .field("environment", &self.environment.keys())
            .finish_non_exhaustive()
    }
}

impl ConfigSources {
    /// The sources of this process: its environment, and the default paths of the file.
    #[must_use]
    pub fn of_process(config: Option<PathBuf>, overrides: Overrides) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text)));
        Self {
            config,
            defaults: vec!["pullthrough.yaml".into(), "/etc/pullthrough/config.yaml".into()],
            environment: variables.filter(|(name, _)| matters(name)).collect(),
            volumes: Some("/".into()),
            overrides,
        }
    }

    /// The file to use, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        let found = || self.defaults.iter().find(|file| file.symlink_metadata().is_ok());
        self.config.as_ref().or_else(found).map(PathBuf::as_path)
    }

    /// Reads the file; empty if there is none or if it cannot be used, which is reported.
    pub(super) fn read(&self, report: &mut Report<'_>) -> String {
        let Some(file) = self.file() else { return String::new() };
        match read(file, self.config.is_none()) {
            Ok(text) => text,
            Err(problem) => {
                report.say_of(ValueSource::File(file.to_owned(), None), problem);
                String::new()
            }
        }
    }
}

/// Whether a variable is kept. The rest of the environment may hold secrets of other programs.
fn matters(name: &str) -> bool {
    let ours = name.starts_with("PULLTHROUGH_") && !setup::VARIABLES.contains(&name); // those belong to the setup scripts
    ours || name == CREDENTIALS || predecessor::NAMES.contains(&name)
}

/// Threat: anyone who may write to a default path could choose what is trusted. So a file that was not named must
/// belong to root or to us and be writable by no one else; this is checked on the open file.
fn read(path: &Path, judge: bool) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot read the file: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if judge && ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
        return Err(
            "belongs to another user; expected root or the user that runs pullthrough, or name the file with --config"
                .into(),
        );
    }
    if judge && metadata.mode() & 0o022 != 0 {
        return Err("writable by others; expected at most 0644 (chmod go-w), or name the file with --config".into());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LIMIT {
        return Err("larger than 1 MiB; expected a configuration".into());
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8; expected text".into())
}
