//! The errors of getting a token.

use std::time::Duration;

use http::StatusCode;

use super::Realm;
use crate::upstream::Error;

/// A token that could not be had. Cheap to clone: all who waited for it get the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The challenge's realm is no https URL.
    #[error("the registry's challenge names no https realm")]
    BadRealm,
    /// The realm is not one that this credential may be sent to.
    #[error("credentials are not sent to the realm {realm}: if it is the registry's, list it in realms")]
    Untrusted {
        /// Where the challenge pointed.
        realm: Realm,
    },
    /// The token service could not be asked.
    #[error("the token service {realm} could not be asked")]
    Upstream {
        /// Which.
        realm: Realm,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// No answer in time.
    #[error("no token from {realm} within {} s", after.as_secs())]
    Slow {
        /// Which.
        realm: Realm,
        /// How long it was waited for.
        after: Duration,
    },
    /// It said no.
    #[error("the token service {realm} answered {status}")]
    Refused {
        /// Which.
        realm: Realm,
        /// With this.
        status: StatusCode,
        /// When to come back, where it said so.
        retry_after: Option<Duration>,
    },
    /// An answer without a token that can be sent.
    #[error("the token service {realm} answered without a token")]
    NoToken {
        /// Which.
        realm: Realm,
    },
    /// It sent the credential elsewhere; it did not go along.
    #[error("the token service {realm} redirects to another host, where credentials do not go")]
    Redirected {
        /// Which.
        realm: Realm,
    },
    /// We are shutting down.
    #[error("no token was asked for: the proxy is stopping")]
    Stopping,
}

impl TokenError {
    /// The realm that was asked in vain, if one was.
    #[must_use]
    pub fn asked(&self) -> Option<&Realm> {
        match self {
            Self::Upstream { realm, .. }
            | Self::Slow { realm, .. }
            | Self::Refused { realm, .. }
            | Self::NoToken { realm }
            | Self::Redirected { realm } => Some(realm),
            Self::BadRealm | Self::Untrusted { .. } | Self::Stopping => None,
        }
    }

    /// Whether it says that this credential is no good, rather than that the service could not be asked.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        let denied = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        matches!(self, Self::Refused { status, .. } if denied.contains(status))
    }

    /// Whether it says that this credential has asked too often, so that another one may still ask.
    #[must_use]
    pub fn is_throttle(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. })
    }

    /// When to come back, where the service said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
