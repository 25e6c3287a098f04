//! Judges the errors of reaching an upstream: whose fault each is, and whether another try can help.

use super::{Error, ParentError};

/// What can be tried after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAdvice {
    /// The same request again, at the same endpoint.
    SameEndpoint,
    /// The next endpoint, or the same one later.
    NextEndpoint,
    /// Nothing: it would fail again.
    Never,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Our client's: it asked for what may not be, or left.
    Client,
    /// The upstream's, or the network's.
    Upstream,
    /// Ours: the configuration, this machine.
    Own,
}

impl Error {
    /// Whether, and how, another try can help.
    #[must_use]
    pub fn retry(&self) -> RetryAdvice {
        match self {
            Self::Exchange { .. } => RetryAdvice::SameEndpoint,
            Self::Parent { source, .. } if matches!(**source, ParentError::Loop) => RetryAdvice::Never,
            Self::Parent { .. } => RetryAdvice::NextEndpoint,
            Self::Resolve { .. }
            | Self::NoAddress { .. }
            | Self::Forbidden(_)
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::UnknownIssuer { .. }
            | Self::Certificate { .. }
            | Self::Tls { .. }
            | Self::FirstByteTimeout { .. }
            | Self::Idle { .. }
            | Self::Trickle { .. }
            | Self::Busy { .. }
            | Self::Misfit { .. }
            | Self::Unreadable { .. }
            | Self::ConnectionLimit { .. }
            | Self::Exhausted { .. }
            | Self::Redirects { .. }
            | Self::InsecureRedirect { .. }
            | Self::BadLocation { .. } => RetryAdvice::NextEndpoint,
            Self::Away { .. }
            | Self::ConnectionBound { .. }
            | Self::RequestBody { .. }
            | Self::RequestTimeout { .. }
            | Self::Unfinished { .. }
            | Self::BadRequest { .. }
            | Self::File { .. }
            | Self::Pem { .. }
            | Self::ClientCertificate { .. }
            | Self::HostKey { .. }
            | Self::Url { .. }
            | Self::ProxyUrl { .. }
            | Self::Full { .. }
            | Self::Setup { .. } => RetryAdvice::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Self::Forbidden(_)
            | Self::RequestBody { .. }
            | Self::RequestTimeout { .. }
            | Self::ConnectionBound { .. } => Side::Client,
            Self::BadRequest { .. }
            | Self::ConnectionLimit { .. }
            | Self::Full { .. }
            | Self::Exhausted { .. }
            | Self::File { .. }
            | Self::Pem { .. }
            | Self::ClientCertificate { .. }
            | Self::HostKey { .. }
            | Self::Url { .. }
            | Self::ProxyUrl { .. }
            | Self::Setup { .. } => Side::Own,
            Self::Parent { source, .. } if source.is_ours() => Side::Own,
            Self::Parent { source, .. } if source.is_login() || matches!(**source, ParentError::Loop) => Side::Own,
            _ => Side::Upstream,
        }
    }

    /// Whether it is for want of file descriptors, connections or memory here: it says nothing of any host.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        match self {
            Self::ConnectionLimit { .. } | Self::Full { .. } | Self::Exhausted { .. } => true,
            Self::Parent { source, .. } => source.is_ours(),
            _ => false,
        }
    }

    /// Whether the upstream's certificate was not accepted.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        matches!(self, Self::UnknownIssuer { .. } | Self::Certificate { .. })
    }

    /// Whether a timeout passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout { .. } | Self::FirstByteTimeout { .. } | Self::Idle { .. } | Self::Trickle { .. }
        )
    }
}
