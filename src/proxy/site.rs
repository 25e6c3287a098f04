//! Names what a request is for, as every door ends in it: which registry, and how its client calls that.
//!
//! Behind it everything is shared. A door decides three things only: which registry a name means, which URLs its client
//! sees, and whose credentials the client's are.

use std::net::IpAddr;
use std::sync::Arc;

use crate::oci::Authority;

/// The listener that a client came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `listen.proxy`: CONNECT and absolute-form.
    Proxy,
    /// `listen.mirror`.
    Mirror,
    /// `listen.transparent`: TLS by SNI.
    Transparent,
}

impl Door {
    /// Its word in the access log and the metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Mirror => "mirror",
            Self::Transparent => "transparent",
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The client's address; IPv4 mapped into IPv6 is IPv4.
    pub address: IpAddr,
    /// The door that it came by.
    pub door: Door,
}

/// A registry's host, as it is asked for one connection or one request.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The host that the registry, or its token service, has for itself.
    pub(crate) authority: Authority,
    /// How a mirror's client calls it; `None` where the client names the registry's own host.
    pub(crate) naming: Option<Naming>,
}

/// A mirror's name for a registry, or for a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    /// Scheme and host by which the client reached the mirror: `https://mirror.example.org:5000`.
    pub(crate) base: Arc<str>,
    /// The repository as the client wrote it, where one is asked for; the judged route has the registry's own name.
    pub(crate) repository: Option<Arc<str>>,
    /// The `ns` parameter, which an answer echoes as `OCI-Namespace`.
    pub(crate) namespace: Option<Arc<str>>,
    /// Whether the name stands for this registry alone, so that its clients' credentials are the registry's own. Else they are the
    /// mirror's, and go nowhere.
    pub(crate) takes_credentials: bool,
}

impl Naming {
    /// The mirror's host, as the client named it.
    pub(crate) fn host(&self) -> Option<Authority> {
        let (scheme, host) = self.base.split_once("://")?;
        Authority::parse(host, if scheme == "https" { 443 } else { 80 }).ok()
    }

    /// The same as text, without the port that the scheme implies.
    fn named_host(&self) -> &str {
        self.base.split_once("://").map_or(&*self.base, |(_, host)| host)
    }
}

impl Site {
    /// A registry that its client names itself.
    pub(crate) fn own(authority: Authority) -> Self {
        Self { authority, naming: None }
    }

    /// The host that the client names, with its port unless the scheme implies it.
    pub(crate) fn named_host(&self) -> Arc<str> {
        self.naming.as_ref().map_or_else(|| self.authority.short(443), |naming| naming.named_host().into())
    }

    /// Whether a client's credentials are this registry's, and may go there.
    pub(crate) fn takes_credentials(&self) -> bool {
        self.naming.as_ref().is_none_or(|naming| naming.takes_credentials)
    }
}
