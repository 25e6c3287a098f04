//! Configures where the proxy listens.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::host::Reserved;

/// The `listen:` section.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// CONNECT, absolute-form, and requests for the proxy itself. Default: `[::]:3128`.
    pub proxy: SocketAddr,
    /// Metrics, read-only. Default: `127.0.0.1:9128`.
    pub admin: SocketAddr,
    /// Registry mirror, plain HTTP and TLS on one port. Default: none.
    pub mirror: Option<SocketAddr>,
    /// TLS by SNI.
    pub transparent: Option<Reserved>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            proxy: (Ipv6Addr::UNSPECIFIED, 3128).into(),
            admin: (Ipv4Addr::LOCALHOST, 9128).into(),
            mirror: None,
            transparent: None,
        }
    }
}
