//! The errors of reaching an upstream: facts, and whether another try can help.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::host::Period;
use crate::oci::Authority;
use crate::wire::BodyError;

use super::{BadEndpoint, Forbidden, ParentError};

/// What went wrong on the way to an upstream or back. Cheap to clone: many readers may learn of one failure.
///
/// No variant's text holds a query string or a header: signed URLs and tokens are secrets.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The name has no address that can be learnt now.
    #[error("the name of {to} could not be resolved")]
    Resolve {
        /// Whose name.
        to: Authority,
        /// What the resolver said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The name has addresses, but none of the family that `upstream.ip` asks for.
    #[error("{to} has no address of the family that upstream.ip asks for")]
    NoAddress {
        /// Whose name.
        to: Authority,
    },
    /// The address rules forbid it.
    #[error(transparent)]
    Forbidden(Forbidden),
    /// No address took the connection; the last one's error.
    #[error("could not connect to {to} at {address}")]
    Connect {
        /// Who was meant.
        to: Authority,
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// No connection, TLS included, within `upstream.connect_timeout`.
    #[error("{} {to} within {}", what_was_late(*.is_reached), Period(*.after))]
    ConnectTimeout {
        /// Who was meant.
        to: Authority,
        /// Whether it took the connection, and then was silent in the handshake of TLS.
        is_reached: bool,
        /// The timeout.
        after: Duration,
    },
    /// The certificate's issuer is not among the trusted ones.
    #[error(
        "the certificate of {to} is signed by an unknown CA: if that is a private one, its file belongs in ca_file (a ca_file that is set does not fit)"
    )]
    UnknownIssuer {
        /// Who was meant.
        to: Authority,
        /// What verification said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The certificate is another host's, expired, or otherwise not one to trust.
    #[error("the certificate of {to} is not valid for it")]
    Certificate {
        /// Who was meant.
        to: Authority,
        /// What verification said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The TLS handshake failed for another reason.
    #[error("the TLS handshake with {to} failed")]
    Tls {
        /// Who was meant.
        to: Authority,
        /// What TLS said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// What came is no HTTP, or more of a head than is read.
    #[error("the answer of {to} cannot be read as HTTP")]
    Unreadable {
        /// From whom.
        to: Authority,
        /// What HTTP said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The connection broke.
    #[error("the exchange with {to} broke off")]
    Exchange {
        /// With whom.
        to: Authority,
        /// What HTTP said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// What came is no answer to what was asked.
    #[error("{to} answered {status}: {why}")]
    Misfit {
        /// Who.
        to: Authority,
        /// With this.
        status: http::StatusCode,
        /// What it says.
        why: &'static str,
    },
    /// The client's credentials would log in a connection, which others share.
    #[error(
        "{scheme} logs in a connection, and this proxy's connections to {to} are shared by its clients: log in with user \
         and password or a token (Basic, Bearer), or reach {to} without this proxy"
    )]
    ConnectionBound {
        /// Where they were to go.
        to: Authority,
        /// Which scheme.
        scheme: &'static str,
    },
    /// The body that was being sent failed on our client's side.
    #[error("the request to {to} broke off on the client's side")]
    RequestBody {
        /// To whom it was sent.
        to: Authority,
        /// Why.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The client sent nothing more of the body that it had announced.
    #[error("the client sent nothing more of its request to {to} for {}", Period(*.after))]
    RequestTimeout {
        /// To whom it was to be sent.
        to: Authority,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection broke while more of the request was waited for from its client.
    #[error("the exchange with {to} broke off before the whole request was there")]
    Unfinished {
        /// With whom.
        to: Authority,
        /// What HTTP said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// No answer within `upstream.first_byte_timeout`.
    #[error("no answer from {to} within {}", Period(*.after))]
    FirstByteTimeout {
        /// From whom.
        to: Authority,
        /// The timeout.
        after: Duration,
    },
    /// A body brought no byte for `upstream.idle_timeout`.
    #[error("no byte from {to} for {}", Period(*.after))]
    Idle {
        /// From whom.
        to: Authority,
        /// The timeout.
        after: Duration,
    },
    /// A body brought next to nothing for several times `upstream.idle_timeout`.
    #[error("fewer than {least} bytes from {to} in {}", Period(*.after))]
    Trickle {
        /// From whom.
        to: Authority,
        /// How many bytes would have been enough.
        least: u64,
        /// How long it was waited for.
        after: Duration,
    },
    /// The registry is known to be away: nothing was sent.
    #[error("the registry is unreachable{}; {to} is not asked until a probe is answered", Why(why.as_deref()))]
    Away {
        /// Who was meant.
        to: Authority,
        /// Which part is unreachable, and why, as clients may know it.
        why: Option<Arc<str>>,
        /// When asking again may help.
        retry_after: Duration,
    },
    /// The host has as many downloads as `upstream.downloads_per_host` allows, and this one was only to gain time.
    #[error("{to} already has {limit} downloads in progress")]
    Busy {
        /// Which host.
        to: Authority,
        /// The limit.
        limit: usize,
    },
    /// As many connections to upstreams are open as may be, and none became free in time: nothing was sent.
    #[error("no connection to {to}: the {limit} connections that may be open to upstreams are in use")]
    ConnectionLimit {
        /// Who was meant.
        to: Authority,
        /// How many may be open; half of them to one host.
        limit: usize,
    },
    /// Answers that are being read hold as much memory as they may, this host's or all: it passes.
    #[error("no memory for the answer of {to}: the answers that are being read have reached the limit")]
    Full {
        /// Who answered.
        to: Authority,
    },
    /// This process, or this machine, has no file descriptor or no memory left for a connection: nothing was sent.
    #[error("no connection to {to}: the proxy has no free file descriptor")]
    Exhausted {
        /// Who was meant.
        to: Authority,
        /// What the system said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// More redirects than anybody needs.
    #[error("more than {limit} redirects, the last from {from}")]
    Redirects {
        /// Who redirected last.
        from: Authority,
        /// How many are followed.
        limit: usize,
    },
    /// A redirect from https to http.
    #[error("{from} redirects from https to http, which is not followed")]
    InsecureRedirect {
        /// Who redirected.
        from: Authority,
    },
    /// A redirect without a `Location` that can be followed.
    #[error("{from} redirects to a location that is not an http or https URL")]
    BadLocation {
        /// Who redirected.
        from: Authority,
    },
    /// A request whose target is no path: a fault of the proxy.
    #[error("a request to {to} has no path")]
    BadRequest {
        /// To whom.
        to: Authority,
    },
    /// A file that the configuration names could not be read.
    #[error("{} could not be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// A file that should hold certificates or a key in PEM holds none that can be used.
    #[error("{} holds no {expected} in PEM that can be used", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// A client certificate without its key, or the reverse, or two that do not belong together.
    #[error("client_cert_file and client_key_file must both be there and belong together ({})", path.display())]
    ClientCertificate {
        /// The file that is there.
        path: PathBuf,
    },
    /// `upstream.hosts` has a key that is no host.
    #[error("upstream.hosts: {key} is no host: expected host or host:port")]
    HostKey {
        /// The key.
        key: String,
    },
    /// An endpoint's URL is none. It is not repeated, as it may hold a password.
    #[error("the url of an endpoint cannot be used")]
    Url {
        /// What was expected.
        #[source]
        source: BadEndpoint,
    },
    /// A proxy of `upstream.proxy` did not lead there.
    #[error("{to} could not be reached through the proxy {parent}")]
    Parent {
        /// Who was meant.
        to: Authority,
        /// Which proxy.
        parent: Authority,
        /// Why.
        #[source]
        source: Box<ParentError>,
    },
    /// A URL of `upstream.proxy` is none. It is not repeated, as it may hold a password.
    #[error("a url of upstream.proxy {problem}")]
    ProxyUrl {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// TLS itself cannot be set up.
    #[error("TLS could not be set up")]
    Setup {
        /// Why.
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
}

/// What did not happen in time.
fn what_was_late(is_reached: bool) -> &'static str {
    if is_reached { "connected, but no TLS handshake with" } else { "no connection to" }
}

impl Error {
    pub(crate) fn of_parent(to: &Authority, parent: &Authority, source: ParentError) -> Self {
        Self::Parent { to: to.clone(), parent: parent.clone(), source: Box::new(source) }
    }

    /// Whether a parent did not take the user and password of the configuration.
    pub(crate) fn is_parents_login(&self) -> bool {
        matches!(self, Self::Parent { source, .. } if source.is_login())
    }

    /// What broke an answer's body, if an upstream did.
    #[must_use]
    pub fn of_body(error: &BodyError) -> Option<&Self> {
        Self::within(error)
    }

    /// The first of our own errors in a chain of causes.
    pub(crate) fn within<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(own) = error.downcast_ref() {
                return Some(own);
            }
            next = error.source();
        }
        None
    }
}

/// An answer's body that ended before its end. Its source is the [`Error`].
///
/// [`BodyError`] answers its cause's source as its own, so the fact has to stand one level below the words.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer broke off")]
pub(crate) struct Broken(#[source] pub(crate) Error);

/// A reason in brackets, if there is one.
struct Why<'a>(Option<&'a str>);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_bodys_error_is_found_by_its_source() {
        let to = Authority::parse("quay.io", 443).unwrap();
        let idle = Error::Idle { to, after: Duration::from_secs(30) };
        let error = BodyError::new(BodyError::new(Broken(idle)));
        assert!(matches!(error.source().and_then(|s| s.downcast_ref()), Some(Error::Idle { .. })));
        assert_eq!(Error::of_body(&error).map(Error::to_string).as_deref(), Some("no byte from quay.io:443 for 30s"));
    }
}
