//! Configures who may use the proxy, and how much of it at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{AuditConfig, RuleConfig};
use crate::host::Budget;
use crate::proxy::limit::Limits;

/// The `clients:` section.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientsConfig {
    /// Networks whose addresses may use the proxy. Default: loopback, private, shared and link-local ones.
    pub allow: Vec<IpNet>,
    /// How many connections may be open at a time. Default: a third of the files that may be open beside the
    /// process's own, one for each 128 KiB of memory, or 20,000, whichever is least.
    pub connections: Option<usize>,
    /// How many of them one address may have. Default: half of them, at most 2,000.
    pub connections_each: Option<usize>,
    /// How many requests may be under way at a time, with their answers' bodies, and tunnels. Default: one for each
    /// 96 KiB of memory, at most 20,000.
    pub streams: Option<usize>,
    /// How many of them one address may have. Default: a quarter of them.
    pub streams_each: Option<usize>,
    /// How long a client may take nothing of an answer. For tests; 60 s.
    #[serde(skip)]
    pub stall: Option<Duration>,
    /// Users and the bcrypt hashes of their passwords; read again when it changes. With it nobody uses the proxy
    /// without a password. Default: none.
    pub htpasswd: Option<PathBuf>,
    /// Who may pull and push what. Default: none, everybody everything.
    pub rules: Vec<RuleConfig>,
    /// Where each manifest pulled or refused is written down: a file, `journald` or `stderr`. Default: nowhere.
    pub audit: Option<AuditConfig>,
}

impl ClientsConfig {
    /// The limits on this machine.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let budget = Budget::of_process(self.connections);
        let limits = Limits::new(&budget, self.connections_each, self.streams, self.streams_each);
        Limits { stall: self.stall.unwrap_or(limits.stall), ..limits }
    }
}

impl Default for ClientsConfig {
    fn default() -> Self {
        let v4 = |a, b, prefix| (IpAddr::from(Ipv4Addr::new(a, b, 0, 0)), prefix);
        let v6 = |a, prefix| (IpAddr::from(Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, 0)), prefix);
        let networks = [
            v4(127, 0, 8),
            (Ipv6Addr::LOCALHOST.into(), 128),
            v4(10, 0, 8),
            v4(172, 16, 12),
            v4(192, 168, 16),
            v4(100, 64, 10),
            v6(0xfc00, 7),
            v6(0xfe80, 10),
        ];
        let allow = networks.into_iter().filter_map(|(address, prefix)| IpNet::new(address, prefix).ok()).collect();
        Self {
            allow,
            connections: None,
            connections_each: None,
            streams: None,
            streams_each: None,
            stall: None,
            htpasswd: None,
            rules: Vec::new(),
            audit: None,
        }
    }
}
