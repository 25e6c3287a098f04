//! The errors of reaching a host through a parent.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::host::Period;
use crate::upstream::CredentialError;

/// What went wrong with a proxy of `upstream.proxy`. No variant holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ParentError {
    /// It cannot be reached itself.
    #[error(transparent)]
    Reach(Unreached),
    /// It did not answer the CONNECT.
    #[error("the proxy did not answer within {}", Period(*.after))]
    Silent {
        /// For how long it was waited for.
        after: Duration,
    },
    /// It broke off, or what it said is no HTTP.
    #[error("the proxy broke off")]
    Broken(#[source] Arc<io::Error>),
    /// 407, and there is no user for it.
    #[error("the proxy asks for a user and a password (407): expected auth beside its url in upstream.proxy")]
    LoginWanted,
    /// 407, though a user and a password were sent.
    #[error("the proxy does not accept the user and the password (407) that auth in upstream.proxy names")]
    LoginRefused,
    /// 407 without a challenge to a request that it passed on: the host's word, not its own.
    #[error("the host behind the proxy answered 407, as only a proxy may")]
    HostsOwn,
    /// The password cannot be read.
    #[error("the password for the proxy cannot be read (auth in upstream.proxy)")]
    Password(#[source] CredentialError),
    /// It may not, or does not want to.
    #[error("the proxy refused it ({})", status.as_u16())]
    Refused {
        /// Its word.
        status: StatusCode,
    },
    /// The way through it leads back here.
    #[error("the proxy leads back here: no two proxies may be each other's parent (upstream.proxy)")]
    Loop,
}

/// Why a parent was not reached. It reads as its cause does.
#[derive(Clone, Debug)]
pub struct Unreached {
    /// What dialling it said.
    pub(crate) cause: Arc<dyn StdError + Send + Sync>,
    /// Whether a timeout passed.
    pub(crate) is_timeout: bool,
    /// Whether it is for want of file descriptors or connections here.
    pub(crate) is_ours: bool,
}

impl Unreached {
    /// Whether a timeout passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.is_timeout
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl StdError for Unreached {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

impl ParentError {
    /// What an answer to CONNECT means that is no 2xx. `had_login` says whether user and password were sent.
    pub(crate) fn of(status: StatusCode, had_login: bool) -> Self {
        match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED if had_login => Self::LoginRefused,
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Self::LoginWanted,
            StatusCode::LOOP_DETECTED => Self::Loop,
            status => Self::Refused { status },
        }
    }

    /// Whether user and password are at fault.
    pub(crate) fn is_login(&self) -> bool {
        matches!(self, Self::LoginWanted | Self::LoginRefused | Self::Password(_))
    }

    /// Whether it is for want of file descriptors here.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Reach(unreached) if unreached.is_ours)
    }

    /// Whether it has too much to do, or wants us to be quicker: nothing is said of the host that was asked for.
    pub(crate) fn is_throttle(&self) -> bool {
        let throttles = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        matches!(self, Self::Refused { status } if throttles.contains(status))
    }

    /// Whether it was judged, so that no other way is tried: what a proxy forbids, another road must not allow.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Loop | Self::HostsOwn => true,
            Self::Refused { status } => status.is_client_error() && !self.is_throttle(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_final_and_a_failure_is_not() {
        let table = [(403, true), (405, true), (407, false), (429, false), (502, false), (503, false), (508, true)];
        for (status, is_final) in table {
            let error = ParentError::of(StatusCode::from_u16(status).unwrap(), false);
            assert_eq!(error.is_final(), is_final, "{status}");
        }
    }
}
