//! Moves the root's key out of the folder: hands it out first, and removes it after.

use std::path::Path;

use super::folder::{Folder, Pair, create, read_key, sync};
use super::{CertificateAuthority, Config, Error, Permitted};

/// The root's private key, still in the folder until [`RootKey::remove`].
pub struct RootKey {
    config: Config,
    pem: String,
}

impl RootKey {
    /// Reads the key, once the folder is ready to do without it: complete, with an issuing certificate for `permitted`.
    /// `None` if the CA is sealed already. Blocks on files.
    ///
    /// # Errors
    /// Those of [`CertificateAuthority::open`].
    pub fn take(config: &Config, permitted: &Permitted) -> Result<Option<Self>, Error> {
        if CertificateAuthority::open(config, permitted)?.sealed() {
            return Ok(None);
        }
        // The lock is released while the key is handed out: that may take a person's time, and a server must be able to
        // start.
        let folder = Folder::open(&config.dir)?;
        let pem = read_key(&folder.key_path(Pair::Root))?;
        Ok(pem.map(|pem| Self { config: config.clone(), pem }))
    }

    /// The key in PEM. A secret: only for the operator, and never for a log.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes it to `file`, which must not be there: mode 0600, synced with its folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_to(&self, file: &Path) -> Result<(), Error> {
        create(file, &self.pem, 0o600)?;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync(parent.unwrap_or(Path::new(".")))
    }

    /// Removes it from the folder, durably. Call it once the key is safe elsewhere; until then nothing is lost.
    ///
    /// # Errors
    /// [`Error::Changed`] if another key is there by now, and [`Error::Io`].
    pub fn remove(self) -> Result<(), Error> {
        Folder::open(&self.config.dir)?.remove_root_key(&self.pem)
    }
}
