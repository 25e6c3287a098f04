//! Configures the registries that the proxy answers for, and the hosts that it tunnels to.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::cache::{GrantsConfig, TagsConfig};
use crate::oci::{Host, HostPattern};
use crate::upstream::{EndpointConfig, Held, Realm, Target};

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
            _ => {
                Err(E::custom("neither client nor anonymous; expected one of them, or {username: u, password_file: f}"))
            }
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
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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

impl Default for TunnelConfig {
    fn default() -> Self {
        Self { default: TunnelDefault::Allow, ports: vec![80, 443], allow: Vec::new(), deny: Vec::new() }
    }
}
