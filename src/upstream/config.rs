//! The `upstream:` section of the configuration: timeouts, address family, parents, single hosts.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::net::family::Family;
use super::reach::HostConfig;
use super::{Nameserver, ProxyConfig, Target};
use crate::host::{Period, Size};

/// The `upstream:` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Proxies that upstreams are reached through, tried in order, by health; `direct` is none. Default: none.
    pub proxy: ProxyConfig,
    /// Hosts that are reached without them: names, patterns, addresses, networks. A name is not resolved to find out.
    pub no_proxy: Several<Target>,
    /// DNS servers to ask instead of the system's, tried in order; port 53 where none is said. Default: none.
    pub resolvers: Several<Nameserver>,
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

/// One value or several: a list, or a text with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Several<T>(pub Vec<T>);

impl Default for Config {
    fn default() -> Self {
        Self {
            proxy: ProxyConfig::default(),
            no_proxy: Several::default(),
            resolvers: Several::default(),
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

impl<T> Default for Several<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de> + FromStr<Err: fmt::Display>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values(PhantomData)).map(Self)
    }
}

struct Values<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + FromStr<Err: fmt::Display>> Visitor<'de> for Values<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(|word| word.parse().map_err(E::custom)).collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<Vec<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(entries))
    }
}
