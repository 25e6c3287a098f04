//! The user and password for one parent proxy.

use http::HeaderValue;

use super::source::CredentialSource;
use super::{CredentialConfig, CredentialError};
use crate::host::TaskGroup;

/// Where they come from.
pub(crate) struct Login(CredentialSource);

impl Login {
    /// Reads where they are to be had.
    pub(crate) fn new(config: &CredentialConfig) -> Result<Self, CredentialError> {
        // A file is read within moments: no stop waits for that.
        CredentialSource::new(config, &TaskGroup::new()).map(Self)
    }

    /// `Basic`, marked as sensitive. Cancel-safe.
    pub(crate) async fn basic(&self) -> Result<Option<HeaderValue>, CredentialError> {
        Ok(self.0.login().await?.and_then(|credential| credential.basic()))
    }

    /// They were refused: they are read anew, soon.
    pub(crate) fn refused(&self) {
        self.0.refused();
    }
}
