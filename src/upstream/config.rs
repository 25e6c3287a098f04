//! How upstreams are reached: timeouts, address family, single hosts, the endpoints of a registry.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Held;
use crate::host::{Later, Period, Size};

/// The `upstream:` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Parent proxies.
    pub proxy: Option<Later>,
    /// Hosts that are reached without a parent proxy.
    pub no_proxy: Option<Later>,
    /// DNS servers to ask instead of the system's.
    pub resolvers: Option<Later>,
    /// Which address family is dialled. Default: any.
    pub ip: Family,
    /// How long one connection may take to be made, all addresses together. Default: 5 s.
    pub connect_timeout: Period,
    /// How long a fill waits for an upstream's first byte. Default: 5 min.
    pub first_byte_timeout: Period,
    /// A body that brings no byte for so long is given up and the next way is tried. Default: 30 s.
    pub idle_timeout: Period,
    /// How many downloads into the cache one host serves at a time, all blobs together. Default: 32.
    pub downloads_per_host: u16,
    /// How many bytes a second pulls may bring from all upstreams together, shared alike by the clients that wait.
    /// Tunnels and pushes do not count. Default: no cap.
    pub bandwidth: Option<Size>,
    /// How to reach single hosts: a token service, a CDN, a tunnelled host. Keys are `host` or `host:port`.
    pub hosts: BTreeMap<String, HostConfig>,
}

/// Which addresses of a name are dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 and IPv6, raced.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

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
    /// `https://host[:port][/path]`, or `http://` where the operator accepts that nothing is verified on the
    /// way (digests still are).
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

impl Default for Config {
    fn default() -> Self {
        Self {
            proxy: None,
            no_proxy: None,
            resolvers: None,
            ip: Family::Any,
            connect_timeout: Period::seconds(5),
            first_byte_timeout: Period::seconds(300),
            idle_timeout: Period::seconds(30),
            downloads_per_host: 32,
            bandwidth: None,
            hosts: BTreeMap::new(),
        }
    }
}
