//! The root's key on its way out of the folder: handed out first, removed after.

use std::path::Path;

use super::folder::{Folder, Pair, create, read_key, sync};
use super::{CertificateAuthority, Config, Error, Permitted};

/// The root's private key, still in the folder until [`RootKey::remove`].
pub struct RootKey {
    config: Config,
    pem: String,
}

impl RootKey {
    /// Reads it, once the folder is fit to go on without it: complete, and its issuing certificate minted for
    /// `permitted`. `None` where the CA is sealed already. Blocks on files.
    ///
    /// # Errors
    /// Those of [`CertificateAuthority::open`].
    pub fn take(config: &Config, permitted: &Permitted) -> Result<Option<Self>, Error> {
        if CertificateAuthority::open(config, permitted)?.sealed() {
            return Ok(None);
        }
        // The lock is not kept while the key is handed out: that may wait for a person, and a server must start.
        let folder = Folder::open(&config.dir)?;
        let pem = read_key(&folder.key_path(Pair::Root))?;
        Ok(pem.map(|pem| Self { config: config.clone(), pem }))
    }

    /// The key in PEM. A secret: for the operator's eyes and files, never for a log.
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

    /// Removes it from the folder, durably. To be called once it is safe elsewhere; until then nothing is lost.
    ///
    /// # Errors
    /// [`Error::Changed`] where another key is there by now, [`Error::Io`].
    pub fn remove(self) -> Result<(), Error> {
        Folder::open(&self.config.dir)?.remove_root_key(&self.pem)
    }
}
