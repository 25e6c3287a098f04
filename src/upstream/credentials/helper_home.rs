//! Finds a home directory for credential helpers: the proxy's own if it can be written to, else one below the cache directory.
//!
//! Cloud helpers keep tokens and logs in their home, and some fail without one. Services have none: under systemd it is
//! `/`, and a container's root is read-only.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

const HOME: &str = "HOME";
const CACHE: &str = "XDG_CACHE_HOME";
/// What helpers read in a home that cannot be written to.
const SETTINGS: [&str; 4] = [".aws", ".azure", ".config", ".docker"];

/// Where helpers may write.
#[derive(Clone, Debug, Default)]
pub(crate) struct HelperHome {
    /// `$HOME` of this process.
    own: Option<PathBuf>,
    /// `$XDG_CACHE_HOME` of this process.
    own_cache: Option<PathBuf>,
    /// The one that is made where the proxy's own cannot be written to.
    spare: Option<PathBuf>,
}

impl HelperHome {
    /// By this process's environment.
    pub(crate) fn new(spare: Option<PathBuf>) -> Self {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        Self::of(variable(HOME), variable(CACHE), spare)
    }

    pub(crate) fn of(own: Option<PathBuf>, own_cache: Option<PathBuf>, spare: Option<PathBuf>) -> Self {
        Self { own, own_cache, spare }
    }

    /// The variables of the environment that have to differ from the proxy's. Makes the directories.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let is_home = self.own.as_deref().is_some_and(is_writable);
        let is_cache = self.own_cache.as_deref().map_or(is_home, is_writable);
        let spare = self.spare.as_ref().filter(|_| !is_home || !is_cache);
        let Some(spare) = spare.and_then(|spare| std::path::absolute(spare).ok()) else { return Vec::new() };
        let cache = spare.join(".cache");
        if let Err(error) = make(&cache) {
            tracing::warn!(path = %spare.display(), %error, "cannot make a home directory for credential helpers");
            return Vec::new();
        }
        let mut variables = Vec::new();
        if !is_home {
            if let Some(own) = &self.own {
                link_settings(own, &spare);
            }
            variables.push((HOME, spare.into()));
        }
        if !is_cache {
            variables.push((CACHE, cache.into()));
        }
        variables
    }
}

/// For this user alone: helpers keep tokens there.
fn make(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// By this process's rights, and the file system's.
fn is_writable(folder: &Path) -> bool {
    folder.is_absolute() && folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// What is there to be read stays there to be read.
fn link_settings(own: &Path, spare: &Path) {
    for name in SETTINGS {
        let (from, to) = (own.join(name), spare.join(name));
        if from.exists()
            && to.symlink_metadata().is_err()
            && let Err(error) = symlink(&from, &to)
        {
            tracing::debug!(path = %from.display(), %error, "credential helpers do not see these settings");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_home_is_kept_where_it_can_be_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (own, spare) = (folder.path().to_owned(), folder.path().join("spare"));
        assert_eq!(HelperHome::of(Some(own.clone()), None, Some(spare.clone())).variables(), []);
        assert_eq!(HelperHome::of(Some(own.clone()), Some(own.clone()), Some(spare.clone())).variables(), []);
        assert!(!spare.exists());
        let cache = (CACHE, spare.join(".cache").into_os_string());
        let odd = HelperHome::of(Some(own), Some("/nowhere".into()), Some(spare.clone()));
        assert_eq!(odd.variables(), std::slice::from_ref(&cache));
        let home = (HOME, spare.clone().into_os_string());
        for own in [None, Some("/nowhere".into()), Some("/dev/null".into()), Some("src".into()), Some("".into())] {
            let found = HelperHome::of(own.clone(), None, Some(spare.clone())).variables();
            assert_eq!(found, [home.clone(), cache.clone()], "{own:?}");
        }
        assert_eq!(HelperHome::of(None, None, None).variables(), []);
    }

    #[test]
    fn a_new_home_is_private_and_shows_the_settings_of_the_old_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (own, spare) = (folder.path().join("own"), folder.path().join("spare"));
        std::fs::create_dir_all(own.join(".aws")).unwrap();
        std::fs::write(own.join(".aws/config"), "[default]").unwrap();
        for _ in 0..2 {
            HelperHome::of(None, None, Some(spare.clone())).variables();
            link_settings(&own, &spare);
        }
        assert_eq!(std::fs::read_to_string(spare.join(".aws/config")).unwrap(), "[default]");
        assert_eq!(std::fs::metadata(&spare).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
