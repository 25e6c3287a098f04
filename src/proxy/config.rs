//! The doors, who may use them, where they lead, and the registries behind them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::guests::{AuditConfig, RuleConfig};
use super::limit::Limits;
use crate::cache::{GrantsConfig, TagsConfig};
use crate::host::{Budget, Later};
use crate::oci::{Host, HostPattern};
use crate::upstream::{EndpointConfig, Held, Realm, Target};

/// The `listen:` section.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// CONNECT, absolute-form, and requests for the proxy itself. Default: `[::]:3128`.
    pub proxy: SocketAddr,
    /// Metrics, read-only. Default: `127.0.0.1:9128`.
    pub admin: SocketAddr,
    /// Registry mirror.
    pub mirror: Option<Later>,
    /// TLS by SNI.
    pub transparent: Option<Later>,
}

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

/// The `tunnel:` section: hosts that are no registry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelConfig {
    /// What happens to a host that no list names. Default: allow.
    pub default: TunnelDefault,
    /// Ports that may be tunnelled to. Default: 80 and 443.
    pub ports: Vec<u16>,
    /// Reachable in any case: private addresses if named, loopback and metadata if the very address is named.
    pub allow: Vec<Target>,
    /// Never reachable; wins over `allow`.
    pub deny: Vec<Target>,
}

/// Whether unlisted hosts are tunnelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelDefault {
    /// They are, on the listed ports, to global addresses.
    Allow,
    /// They are refused.
    Deny,
}

/// The body of one entry of `registries:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Tried in order. Default: `https://` and the registry's own host.
    pub endpoints: Vec<EndpointConfig>,
    /// Hosts of its token service, where that is not the registry: intercepted too.
    pub token_hosts: Vec<String>,
    /// Further realms that held credentials may be sent to, such as `https://login.example.com/token`.
    pub realms: Vec<Realm>,
    /// Whose credentials go upstream. Default: client.
    pub auth: Auth,
    /// Whether pushes and deletes pass. Default: deny.
    pub push: Push,
    /// How many other blobs of an image are fetched ahead, at a time, once a client has begun with its layers:
    /// `on`, `off` or a number. Default: on, which is 8.
    pub prefetch: Prefetch,
    /// How long tags are believed.
    pub tags: TagsConfig,
    /// How long rights are believed.
    pub grants: GrantsConfig,
}

/// A registry as the proxy uses it: a preset and the body of its entry, put together and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    /// The name of its entry: the metric label, and the registry's name in the cache.
    pub name: String,
    /// Every host that is it, aliases included; port 443 where none is said.
    pub hosts: Vec<HostPattern>,
    /// Tried in order; empty means `https://` and the host that the client asked.
    pub endpoints: Vec<EndpointConfig>,
    /// Hosts of its token service, port 443: intercepted too.
    pub token_hosts: Vec<Host>,
    /// Whether the configuration names this very host, which may then have a private address.
    pub named: bool,
    /// Realms beside its own host that held credentials may be sent to: the preset's and those listed.
    pub realms: Vec<Realm>,
    /// Whose credentials go upstream.
    pub auth: Auth,
    /// Whether pushes and deletes pass.
    pub push: Push,
    /// How many blobs are fetched ahead at a time.
    pub prefetch: Prefetch,
    /// How long tags are believed; `fresh_for` and `deadline` are filled in.
    pub tags: TagsConfig,
    /// How long rights are believed.
    pub grants: GrantsConfig,
}

/// Whose credentials go upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// The client's own.
    #[default]
    Client,
    /// Nobody's: only what is public is served.
    Anonymous,
    /// The proxy's own.
    Held(Held),
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Whose)
    }
}

struct Whose;

impl<'de> Visitor<'de> for Whose {
    type Value = Auth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("client, anonymous, credentials such as {username: u, password_file: f}, or a list of them")
    }

    /// Another word is not repeated: it may be a password in the wrong place.
    fn visit_str<E: Error>(self, text: &str) -> Result<Auth, E> {
        match text {
            "client" => Ok(Auth::Client),
            "anonymous" => Ok(Auth::Anonymous),
            _ => Err(E::custom(
                "is neither client nor anonymous; expected one of them, or {username: u, password_file: f}",
            )),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entry: A) -> Result<Auth, A::Error> {
        Held::deserialize(MapAccessDeserializer::new(entry)).map(Auth::Held)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<Auth, A::Error> {
        Held::deserialize(SeqAccessDeserializer::new(entries)).map(Auth::Held)
    }
}

/// Whether pushes and deletes pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Push {
    /// They are answered 405.
    #[default]
    Deny,
    /// They stream through, unbuffered and uncached.
    Allow,
}

/// How many blobs of one registry are fetched ahead at a time; 0 is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch(pub usize);

impl Default for Prefetch {
    fn default() -> Self {
        Self(8)
    }
}

impl<'de> Deserialize<'de> for Prefetch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok()).filter(|number| *number <= 64);
        match (value.as_str(), value.as_bool(), number) {
            (Some("on"), ..) | (_, Some(true), _) => Ok(Self::default()),
            (Some("off"), ..) | (_, Some(false), _) => Ok(Self(0)),
            (.., Some(number)) => Ok(Self(number)),
            _ => Err(D::Error::custom("expected on, off or a number up to 64")),
        }
    }
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

impl ClientsConfig {
    /// What may be under way on this machine.
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

impl Default for TunnelConfig {
    fn default() -> Self {
        Self { default: TunnelDefault::Allow, ports: vec![80, 443], allow: Vec::new(), deny: Vec::new() }
    }
}
