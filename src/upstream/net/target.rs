//! The entries of `tunnel.allow` and `tunnel.deny`: a host pattern, an address, or a network.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer};

use crate::oci::{HostPattern, parsed};

/// One entry of such a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A name, a pattern of names, or an address, with a port or (for every port) without.
    Host(HostPattern),
    /// A network, such as `10.0.0.0/8`.
    Network(IpNet),
}

/// Text that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a host, a host pattern, an address or a network, such as *.example.com, 192.0.2.7 or 10.0.0.0/8")]
pub struct BadTarget;

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        if text.contains('/') {
            return text.parse().map(Self::Network).map_err(|_| BadTarget);
        }
        text.parse().map(Self::Host).map_err(|_| BadTarget)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(pattern) => pattern.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}
