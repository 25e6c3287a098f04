//! Configures where the proxy listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error as _};

use crate::proxy::site::Door;

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
    /// TLS by SNI, for clients that a DNS override or iptables leads here. Default: none.
    pub transparent: Option<SocketAddr>,
    /// Balancers, at whose connections the header of the PROXY protocol is required and believed, by every listener.
    /// Default: none.
    pub proxy_protocol: Vec<Balancer>,
}

/// Where a balancer is: an address, or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balancer(pub IpNet);

impl<'de> Deserialize<'de> for Balancer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse());
        network
            .map(Self)
            .map_err(|_| D::Error::custom("expected an address or a network, such as 10.0.0.5 or 10.0.0.0/8"))
    }
}

impl ListenConfig {
    /// The doors that are to be opened, with the key and the address of each.
    #[must_use]
    pub fn doors(&self) -> Vec<(Door, &'static str, SocketAddr)> {
        let mirror = self.mirror.map(|address| (Door::Mirror, "listen.mirror", address));
        let transparent = self.transparent.map(|address| (Door::Transparent, "listen.transparent", address));
        [Some((Door::Proxy, "listen.proxy", self.proxy)), mirror, transparent].into_iter().flatten().collect()
    }

    /// What takes effect at the next start only.
    #[must_use]
    pub fn addresses(&self) -> Self {
        Self { proxy_protocol: Vec::new(), ..self.clone() }
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            proxy: (Ipv6Addr::UNSPECIFIED, 3128).into(),
            admin: (Ipv4Addr::LOCALHOST, 9128).into(),
            mirror: None,
            transparent: None,
            proxy_protocol: Vec::new(),
        }
    }
}
