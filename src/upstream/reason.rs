//! Names why an upstream gave no answer: one word for metrics, a few for people.

use std::fmt;
use std::io;

use rustls::CertificateError;

use super::http::evidence::Evidence;
use super::net::tls::WrongDate;
use super::{Error, ParentError};
use crate::host::chain;
use crate::oci::Authority;

/// The reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The name does not resolve.
    Dns,
    /// The connection was refused.
    Refused,
    /// No connection could be made for another cause.
    Unreachable,
    /// No connection in time.
    Timeout,
    /// The certificate is signed by an unknown CA.
    UnknownCa,
    /// The certificate is for another name.
    CertificateName,
    /// The certificate has expired.
    CertificateExpired,
    /// The certificate is not valid yet.
    CertificateNotYetValid,
    /// The certificate is not valid for another cause.
    Certificate,
    /// The TLS handshake failed.
    Tls,
    /// A connection was made, and no answer came.
    Silent,
    /// The connection broke off.
    Broken,
    /// The answer cannot be read, or answers another question.
    Protocol,
    /// A redirect cannot be followed.
    Redirect,
    /// The server answers with errors.
    ServerError,
    /// A proxy of `upstream.proxy` did not lead there.
    Parent,
    /// The address rules forbid the address.
    Forbidden,
    /// No token could be had.
    Token,
    /// None of the proxy's own credentials can be used.
    Credentials,
    /// The client broke off.
    Client,
    /// This machine: no free connection, file or memory.
    Local,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Dns,
        Self::Refused,
        Self::Unreachable,
        Self::Timeout,
        Self::UnknownCa,
        Self::CertificateName,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::Certificate,
        Self::Tls,
        Self::Silent,
        Self::Broken,
        Self::Protocol,
        Self::Redirect,
        Self::ServerError,
        Self::Parent,
        Self::Forbidden,
        Self::Token,
        Self::Credentials,
        Self::Client,
        Self::Local,
    ];

    /// Whether `other` is no news after it: which deadline passes first, that of a connection or that of an answer, is
    /// chance.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        let is_late = |reason| matches!(reason, Self::Timeout | Self::Silent);
        self == other || (is_late(self) && is_late(other))
    }

    /// The word for metrics and log fields.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::UnknownCa => "unknown_ca",
            Self::CertificateName => "certificate_name",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::Certificate => "certificate",
            Self::Tls => "tls",
            Self::Silent => "silent",
            Self::Broken => "broken",
            Self::Protocol => "protocol",
            Self::Redirect => "redirect",
            Self::ServerError => "server_error",
            Self::Parent => "parent",
            Self::Forbidden => "forbidden",
            Self::Token => "token",
            Self::Credentials => "credentials",
            Self::Client => "client",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "its name does not resolve",
            Self::Refused => "the connection was refused",
            Self::Unreachable => "no connection could be made",
            Self::Timeout => "no connection was made in time",
            Self::UnknownCa => "its certificate is signed by an unknown CA",
            Self::CertificateName => "its certificate is for another name",
            Self::CertificateExpired => "its certificate has expired",
            Self::CertificateNotYetValid => "its certificate is not valid yet",
            Self::Certificate => "its certificate is not valid",
            Self::Tls => "the TLS handshake failed",
            Self::Silent => "it does not answer",
            Self::Broken => "the connection broke off",
            Self::Protocol => "its answer cannot be read",
            Self::Redirect => "its redirect cannot be followed",
            Self::ServerError => "it answers with errors",
            Self::Parent => "the parent proxy did not reach it",
            Self::Forbidden => "its address is forbidden",
            Self::Token => "no token could be had",
            Self::Credentials => "the proxy's own credentials cannot be used",
            Self::Client => "the client broke off",
            Self::Local => "the proxy has no connection, file or memory left",
        })
    }
}

impl Error {
    /// Why there was no answer.
    #[must_use]
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Resolve { .. } | Self::NoAddress { .. } => FailureReason::Dns,
            Self::Connect { source, .. } => {
                let kind = source.downcast_ref::<io::Error>().map(io::Error::kind);
                match kind {
                    Some(io::ErrorKind::ConnectionRefused) => FailureReason::Refused,
                    Some(io::ErrorKind::TimedOut) => FailureReason::Timeout,
                    _ => FailureReason::Unreachable,
                }
            }
            Self::ConnectTimeout { is_reached: false, .. } => FailureReason::Timeout,
            Self::UnknownIssuer { .. } => FailureReason::UnknownCa,
            Self::Certificate { source, .. } => match source.downcast_ref() {
                Some(rustls::Error::InvalidCertificate(flaw)) => of_certificate(flaw),
                _ => match source.downcast_ref() {
                    Some(WrongDate { is_early: true, .. }) => FailureReason::CertificateNotYetValid,
                    Some(WrongDate { is_early: false, .. }) => FailureReason::CertificateExpired,
                    None => FailureReason::Certificate,
                },
            },
            Self::Tls { .. } => FailureReason::Tls,
            Self::ConnectTimeout { is_reached: true, .. }
            | Self::FirstByteTimeout { .. }
            | Self::Idle { .. }
            | Self::Trickle { .. }
            | Self::Away { .. } => FailureReason::Silent,
            Self::Exchange { .. } => FailureReason::Broken,
            Self::Misfit { .. } | Self::Unreadable { .. } => FailureReason::Protocol,
            Self::Redirects { .. } | Self::InsecureRedirect { .. } | Self::BadLocation { .. } => {
                FailureReason::Redirect
            }
            Self::Parent { source, .. } if source.is_ours() => FailureReason::Local,
            Self::Parent { .. } => FailureReason::Parent,
            Self::Forbidden(_) => FailureReason::Forbidden,
            Self::RequestBody { .. }
            | Self::RequestTimeout { .. }
            | Self::Unfinished { .. }
            | Self::ConnectionBound { .. } => FailureReason::Client,
            _ => FailureReason::Local,
        }
    }

    /// Whether nothing was sent, and nothing was tried: that is no request.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Busy { .. })
    }

    /// Whether the upstream may have acted on the request: not without a connection to it, nor on half a request.
    #[must_use]
    pub fn may_have_acted(&self) -> bool {
        let has_no_connection = matches!(
            self,
            Self::Resolve { .. }
                | Self::NoAddress { .. }
                | Self::Forbidden(_)
                | Self::Connect { .. }
                | Self::ConnectTimeout { .. }
                | Self::UnknownIssuer { .. }
                | Self::Certificate { .. }
                | Self::Tls { .. }
                | Self::Parent { .. }
                | Self::ConnectionBound { .. }
                | Self::ConnectionLimit { .. }
                | Self::Exhausted { .. }
        );
        let is_half = matches!(self, Self::RequestBody { .. } | Self::RequestTimeout { .. } | Self::Unfinished { .. });
        !(self.is_unsent() || has_no_connection || is_half)
    }

    /// Whether it makes a probe ask whether its host is away: then the outage tells it, if it is one.
    #[must_use]
    pub fn is_outage_evidence(&self) -> bool {
        matches!(Evidence::of(Err(self)), Evidence::Down | Evidence::Garbled)
    }

    /// The host that was meant, where the error names one.
    #[must_use]
    pub fn host(&self) -> Option<&Authority> {
        match self {
            Self::Resolve { to, .. }
            | Self::NoAddress { to }
            | Self::Connect { to, .. }
            | Self::ConnectTimeout { to, .. }
            | Self::UnknownIssuer { to, .. }
            | Self::Certificate { to, .. }
            | Self::Tls { to, .. }
            | Self::Unreadable { to, .. }
            | Self::Exchange { to, .. }
            | Self::Misfit { to, .. }
            | Self::FirstByteTimeout { to, .. }
            | Self::Idle { to, .. }
            | Self::Trickle { to, .. }
            | Self::Away { to, .. }
            | Self::Busy { to, .. }
            | Self::Parent { to, .. } => Some(to),
            Self::Redirects { from, .. } | Self::InsecureRedirect { from } | Self::BadLocation { from } => Some(from),
            _ => None,
        }
    }

    /// The same as its text and its causes', without what is for operators only: where a parent is, and its password
    /// file.
    #[must_use]
    pub fn for_clients(&self) -> String {
        let Self::Parent { to, source, .. } = self else { return chain(self) };
        match &**source {
            ParentError::Reach(_) => format!("{to} could not be reached: the parent proxy is unreachable"),
            source => format!("{to} could not be reached: {source}"),
        }
    }
}

fn of_certificate(flaw: &CertificateError) -> FailureReason {
    match flaw {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => FailureReason::CertificateExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            FailureReason::CertificateNotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            FailureReason::CertificateName
        }
        CertificateError::UnknownIssuer => FailureReason::UnknownCa,
        _ => FailureReason::Certificate,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_reason_has_a_label_of_its_own() {
        let mut labels = FailureReason::ALL.map(FailureReason::label).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), FailureReason::ALL.len());
    }

    #[test]
    fn an_error_has_the_reason_that_its_cause_gives() {
        let to = || Authority::parse("quay.io", 443).unwrap();
        let connect = |kind: io::ErrorKind| Error::Connect {
            to: to(),
            address: ([192, 0, 2, 1], 443).into(),
            source: Arc::new(io::Error::from(kind)),
        };
        let certificate =
            |flaw| Error::Certificate { to: to(), source: Arc::new(rustls::Error::InvalidCertificate(flaw)) };
        let after = Duration::from_secs(5);
        let table = [
            (Error::NoAddress { to: to() }, "dns"),
            (connect(io::ErrorKind::ConnectionRefused), "refused"),
            (connect(io::ErrorKind::HostUnreachable), "unreachable"),
            (connect(io::ErrorKind::TimedOut), "timeout"),
            (Error::ConnectTimeout { to: to(), is_reached: false, after }, "timeout"),
            (Error::ConnectTimeout { to: to(), is_reached: true, after }, "silent"),
            (certificate(CertificateError::Expired), "certificate_expired"),
            (certificate(CertificateError::NotValidYet), "certificate_not_yet_valid"),
            (certificate(CertificateError::NotValidForName), "certificate_name"),
            (certificate(CertificateError::BadSignature), "certificate"),
            (Error::FirstByteTimeout { to: to(), after }, "silent"),
            (Error::InsecureRedirect { from: to() }, "redirect"),
        ];
        for (error, label) in table {
            assert_eq!(error.reason().label(), label, "{error}");
        }
    }
}
