//! The configuration of how one host, or one endpoint of a registry, is reached.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Held;

/// How one host is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Connect here instead of what DNS says.
    pub address: Option<SocketAddr>,
    /// PEM certificates trusted for this host, besides the system's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM of a TLS client certificate.
    pub client_cert_file: Option<PathBuf>,
    /// PEM of its key.
    pub client_key_file: Option<PathBuf>,
}

/// One endpoint of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// `https://host[:port][/path]`, or `http://` where the operator accepts that nothing but digests is verified, and
    /// that no credentials are sent there.
    pub url: String,
    /// Connect here instead of what DNS says.
    pub address: Option<SocketAddr>,
    /// PEM certificates trusted for this endpoint, besides the system's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM of a TLS client certificate.
    pub client_cert_file: Option<PathBuf>,
    /// PEM of its key.
    pub client_key_file: Option<PathBuf>,
    /// Credentials that the proxy holds for this endpoint alone. Default: none.
    pub auth: Option<Held>,
    /// Whether it may be asked what only the registry knows (tags, permissions) and be sent the client's
    /// credentials. An endpoint on the registry's own host always may. Default: false.
    #[serde(default)]
    pub authoritative: bool,
}

impl EndpointConfig {
    /// An endpoint of which nothing but the URL is said.
    #[must_use]
    pub fn of_url(url: String) -> Self {
        Self {
            url,
            address: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            auth: None,
            authoritative: false,
        }
    }
}
