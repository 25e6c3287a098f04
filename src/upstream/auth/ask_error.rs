//! The errors of asking a registry in a name.

use http::StatusCode;

use crate::oci::Authority;
use crate::upstream::{CredentialError, Error, FailureReason, Realm, TokenError};

/// Why a registry was not asked, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No exchange.
    #[error(transparent)]
    Upstream(#[from] Error),
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No credential: its source failed.
    #[error("could not get one of the proxy's own credentials")]
    Credential(#[from] CredentialError),
    /// None of the held credentials is for this repository.
    #[error("none of the proxy's own credentials is for this repository")]
    NoCredential,
    /// A request that cannot be written.
    #[error("the request cannot be sent upstream")]
    Request(#[from] http::Error),
}

impl AskError {
    /// Whether it refuses the caller, rather than being a failure to ask.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Token(error) if error.is_denial())
    }

    /// Why, for metrics.
    pub(crate) fn label(&self) -> &'static str {
        let reason = match self {
            Self::Upstream(error) => error.reason(),
            Self::Token(TokenError::Upstream { source, .. }) => source.reason(),
            Self::Token(_) => FailureReason::Token,
            Self::Credential(_) | Self::NoCredential => FailureReason::Credentials,
            Self::Request(_) => FailureReason::Local,
        };
        reason.label()
    }

    /// The token service that was asked in vain, if one was.
    pub(crate) fn token_service(&self) -> Option<&Authority> {
        let Self::Token(error) = self else { return None };
        error.asked().map(Realm::authority)
    }

    /// The status with which a token service refused a token.
    pub(crate) fn token_status(&self) -> Option<StatusCode> {
        match self {
            Self::Token(TokenError::Refused { status, .. }) => Some(*status),
            _ => None,
        }
    }

    /// The exchange that failed, if one did.
    pub(crate) fn exchange(&self) -> Option<&Error> {
        match self {
            Self::Upstream(error) => Some(error),
            Self::Token(TokenError::Upstream { source, .. }) => Some(source),
            Self::Token(_) | Self::Credential(_) | Self::NoCredential | Self::Request(_) => None,
        }
    }
}
