//! Resolves the relative paths of a configuration: to its own folder, or to a credential of the systemd service.

use std::path::{Path, PathBuf};

use super::source::{CREDENTIALS, ConfigSources};

/// The folder of the configuration, and the folder of credentials, if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    folder: PathBuf,
    credentials: Option<PathBuf>,
    /// The home directory of credential helpers, where this process has none.
    pub(super) home: Option<PathBuf>,
}

impl Base {
    /// The base for the configuration in `file`.
    pub(super) fn of(file: Option<&Path>, sources: &ConfigSources) -> Self {
        let folder = file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let credentials = sources.environment.get(CREDENTIALS).filter(|text| !text.is_empty());
        Self { folder, credentials: credentials.map(PathBuf::from), home: None }
    }

    /// Resolves a path relative to the folder of the configuration.
    pub(super) fn join(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Resolves the path of a file that holds a secret: a credential of that name comes first, if the service has one.
    pub(super) fn secret(&self, path: &Path) -> PathBuf {
        let credential = self.credentials.as_ref().map(|folder| folder.join(path));
        credential.filter(|file| path.is_relative() && file.is_file()).unwrap_or_else(|| self.join(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_secret_is_a_credential_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hub"), "secret").unwrap();
        let environment = [(CREDENTIALS.to_owned(), folder.path().into())].into();
        let base = Base::of(Some(Path::new("etc/p.yaml")), &ConfigSources { environment, ..ConfigSources::default() });
        assert_eq!(base.secret(Path::new("hub")), folder.path().join("hub"));
        assert_eq!(base.secret(Path::new("other")), Path::new("etc/other"));
        assert_eq!(base.secret(Path::new("/run/hub")), Path::new("/run/hub"));
        assert_eq!(base.join(Path::new("hub")), Path::new("etc/hub"));
        assert_eq!(Base::of(None, &ConfigSources::default()).secret(Path::new("hub")), Path::new("hub"));
    }
}
