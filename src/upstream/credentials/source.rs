//! The source of one entry's credential: a fixed one, a file, a docker configuration, or a helper.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::config::{CredentialConfig, Origin};
use super::docker::{DockerConfig, Lead};
use super::helper_home::HelperHome;
use super::kept::Kept;
use super::{Credential, CredentialError, helper};
use crate::host::{Secret, TaskGroup, WatchedFile};
use crate::oci::{Authority, Repository};

/// How often a file is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(30 * 60);
const PASSWORD_LIMIT: u64 = 64 << 10;
const DOCKER_LIMIT: u64 = 1 << 20;
/// Helpers are kept for each server; patterns of registries have many.
const SERVERS: u64 = 256;

pub(crate) enum CredentialSource {
    Fixed(Credential),
    File { file: Arc<PasswordFile>, kept: Kept<Credential> },
    Docker { file: Arc<DockerFile>, kept: Kept<Arc<DockerConfig>>, helpers: Helpers },
    Helper { name: String, helpers: Helpers },
}

impl CredentialSource {
    pub(crate) fn new(config: &CredentialConfig, tasks: &TaskGroup) -> Result<Self, CredentialError> {
        let life = config.lifetime.map_or(LIFETIME, |lifetime| lifetime.0);
        Ok(match config.origin().ok_or(CredentialError::Entry)? {
            Origin::Password(user, password) => Self::Fixed(Credential::new(user.to_owned(), password.clone())),
            Origin::Variable(user, name) => Self::Fixed(Credential::new(user.to_owned(), variable(name)?)),
            Origin::File(user, path) => {
                Self::File { file: Arc::new(PasswordFile::new(user, path)), kept: Kept::new(tasks) }
            }
            Origin::Docker(path) => {
                let helpers = Helpers::new(life, config.home.clone(), tasks.clone());
                Self::Docker { file: Arc::new(DockerFile::new(path)), kept: Kept::new(tasks), helpers }
            }
            Origin::Helper(name) => {
                Self::Helper { name: name.to_owned(), helpers: Helpers::new(life, config.home.clone(), tasks.clone()) }
            }
        })
    }

    /// The credential for a repository; `None` where the source knows none. Cancel-safe.
    pub(crate) async fn credential(
        &self,
        server: &Authority,
        repository: &Repository,
    ) -> Result<Option<Credential>, CredentialError> {
        match self {
            Self::Fixed(_) | Self::File { .. } => self.login().await,
            Self::Docker { file, kept, helpers } => {
                let file = file.clone();
                let config = kept.value(LOOK, move || file.read()).await?;
                for lead in config.leads(server, repository) {
                    let found = match lead {
                        Lead::Credential(credential) => Some(credential),
                        Lead::Helper { name, server } => helpers.ask(name, server).await?,
                    };
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Ok(None)
            }
            Self::Helper { name, helpers } => helpers.ask(name.clone(), server.short(443).to_string()).await,
        }
    }

    /// The credential that is the same for every server and repository; `None` where there is none such. Cancel-safe.
    pub(crate) async fn login(&self) -> Result<Option<Credential>, CredentialError> {
        match self {
            Self::Fixed(credential) => Ok(Some(credential.clone())),
            Self::File { file, kept } => {
                let file = file.clone();
                kept.value(LOOK, move || file.read()).await.map(Some)
            }
            Self::Docker { .. } | Self::Helper { .. } => Ok(None),
        }
    }

    /// What it gave was refused upstream: it is asked anew, soon.
    pub(crate) fn refused(&self) {
        match self {
            Self::Fixed(_) => {}
            Self::File { kept, .. } => kept.refused(),
            Self::Docker { kept, helpers, .. } => {
                kept.refused();
                helpers.refused();
            }
            Self::Helper { helpers, .. } => helpers.refused(),
        }
    }
}

impl CredentialConfig {
    /// Looks whether the entry's source is there and can be read: for the configuration's check. Runs no helper.
    /// Blocks on files.
    ///
    /// # Errors
    /// The key at fault, and what is wrong and was expected.
    pub fn probe(&self) -> Result<(), (&'static str, String)> {
        let told = |key, error: &CredentialError| {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            (key, format!("{error}{cause}; expected a file that can be read"))
        };
        match self.origin() {
            None | Some(Origin::Password(..)) => Ok(()),
            Some(Origin::Variable(_, name)) => variable(name)
                .map(drop)
                .map_err(|error| ("password_env", format!("{error}; expected a password in it"))),
            Some(Origin::File(user, path)) => {
                PasswordFile::new(user, path).read().map(drop).map_err(|error| told("password_file", &error))
            }
            Some(Origin::Docker(path)) => {
                DockerFile::new(path).read().map(drop).map_err(|error| told("docker_config", &error))
            }
            Some(Origin::Helper(name)) if helper::is_there(name) => Ok(()),
            Some(Origin::Helper(name)) => {
                let program = helper::program(name);
                Err(("helper", format!("{program} is no program on this machine; expected one that can be run")))
            }
        }
    }
}

fn variable(name: &str) -> Result<Secret, CredentialError> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map(Secret::new).ok_or_else(|| CredentialError::Variable { name: name.to_owned() })
}

/// A file whose first line is a password.
pub(crate) struct PasswordFile {
    user: String,
    file: WatchedFile,
    last: Mutex<Option<Credential>>,
}

impl PasswordFile {
    fn new(user: &str, path: &Path) -> Self {
        let file = WatchedFile::new(path.to_owned(), PASSWORD_LIMIT);
        Self { user: user.to_owned(), file, last: Mutex::new(None) }
    }

    fn read(&self) -> Result<Credential, CredentialError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = self.file.read_if_changed().map_err(unreadable(&self.file))? {
            let password =
                first_line(&bytes).ok_or_else(|| CredentialError::NoPassword { path: self.file.path().to_owned() })?;
            *last = Some(Credential::new(self.user.clone(), password));
        }
        last.clone().ok_or_else(|| CredentialError::NoPassword { path: self.file.path().to_owned() })
    }
}

/// The first line, without its end; `None` where it is empty or no text.
pub(crate) fn first_line(bytes: &[u8]) -> Option<Secret> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.lines().next().filter(|line| !line.is_empty())?;
    Some(Secret::new(line.to_owned()))
}

/// A docker configuration that may change.
pub(crate) struct DockerFile {
    file: WatchedFile,
    last: Mutex<Option<Arc<DockerConfig>>>,
}

impl DockerFile {
    fn new(path: &Path) -> Self {
        Self { file: WatchedFile::new(path.to_owned(), DOCKER_LIMIT), last: Mutex::new(None) }
    }

    fn read(&self) -> Result<Arc<DockerConfig>, CredentialError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = |problem| CredentialError::Docker { path: self.file.path().to_owned(), problem };
        if let Some(bytes) = self.file.read_if_changed().map_err(unreadable(&self.file))? {
            *last = Some(Arc::new(DockerConfig::parse(&bytes).map_err(broken)?));
        }
        last.clone().ok_or_else(|| broken("it could not be read".to_owned()))
    }
}

fn unreadable(file: &WatchedFile) -> impl FnOnce(std::io::Error) -> CredentialError {
    |source| CredentialError::File { path: file.path().to_owned(), source: Arc::new(source) }
}

/// The answers of helpers, by helper and server.
pub(crate) struct Helpers {
    life: Duration,
    home: HelperHome,
    kept: moka::sync::Cache<(String, String), Arc<Kept<Option<Credential>>>>,
    tasks: TaskGroup,
}

impl Helpers {
    fn new(life: Duration, spare_home: Option<PathBuf>, tasks: TaskGroup) -> Self {
        Self { life, home: HelperHome::new(spare_home), kept: moka::sync::Cache::new(SERVERS), tasks }
    }

    async fn ask(&self, name: String, server: String) -> Result<Option<Credential>, CredentialError> {
        let kept = self.kept.get_with((name.clone(), server.clone()), || Arc::new(Kept::new(&self.tasks)));
        let home = self.home.clone();
        kept.value(self.life, move || helper::ask(&name, &server, &home)).await
    }

    fn refused(&self) {
        for (_, kept) in &self.kept {
            kept.refused();
        }
    }
}
