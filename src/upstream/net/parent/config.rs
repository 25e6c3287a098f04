//! `upstream.proxy` as a configuration writes it: one proxy or several, and `direct`.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::oci::Authority;
use crate::upstream::endpoint::implied_port;
use crate::upstream::{CredentialConfig, Held};

/// The hops, in the order to try them; none is as good as `direct`. One may stand without a list; a text may hold
/// several, with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyConfig(pub Vec<HopConfig>);

/// One entry of `upstream.proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopConfig {
    /// `direct`: no proxy.
    Direct,
    /// A proxy.
    Parent(Box<ParentConfig>),
}

/// A proxy that upstreams are reached through.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentConfig {
    /// `http://host[:port]`, or `https://` where TLS is spoken with the proxy itself.
    pub url: String,
    /// PEM certificates trusted besides the system's roots: for TLS with the proxy itself, and for the hosts that are
    /// reached through it, since it may take TLS off as this proxy does.
    pub ca_file: Option<PathBuf>,
    /// The user and the password that it asks for. Default: none.
    pub auth: Option<Held>,
}

/// Where a URL leads.
pub(crate) struct ParentSite {
    pub(crate) secure: bool,
    pub(crate) authority: Authority,
}

const URL: &str = "not a proxy URL; expected http://host[:port], https://host[:port] or direct";
const USER: &str =
    "contains a user or a password; expected none in a url, but auth: {username: u, password_file: f} next to it";
const AUTH: &str = "not supported for a proxy; expected one username with password_file, password_env or password";

impl ParentConfig {
    /// A proxy of which nothing but the URL is said.
    #[must_use]
    pub fn of_url(url: String) -> Self {
        Self { url, ca_file: None, auth: None }
    }

    /// What is wrong with it: the key at fault, and what was expected, without a word of what stands there.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        if let Err(problem) = self.site() {
            return Some(("url", problem));
        }
        let is_login = |held: &Held| held.0.len() == 1 && held.0.iter().all(CredentialConfig::is_login);
        self.auth.as_ref().filter(|held| !is_login(held)).map(|_| ("auth", AUTH))
    }

    /// Whether what it is told, its user and password too, can be read on the way to it.
    #[must_use]
    pub fn is_in_the_clear(&self) -> bool {
        self.site().is_ok_and(|site| !site.secure)
    }

    pub(crate) fn site(&self) -> Result<ParentSite, &'static str> {
        let (scheme, rest) = self.url.split_once("://").ok_or(URL)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(URL),
        };
        if rest.contains('@') {
            return Err(USER);
        }
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let authority = Authority::parse(host, implied_port(secure)).map_err(|_| URL)?;
        Ok(ParentSite { secure, authority })
    }
}

impl HopConfig {
    fn of_text(text: &str) -> Self {
        match text.trim() {
            "direct" => Self::Direct,
            url => Self::Parent(Box::new(ParentConfig::of_url(url.to_owned()))),
        }
    }
}

impl fmt::Display for HopConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            // The text itself may hold a password, where nobody has judged it yet.
            Self::Parent(parent) => match parent.site() {
                Ok(ParentSite { secure, authority }) => {
                    write!(f, "{}://{}", if secure { "https" } else { "http" }, authority.short(implied_port(secure)))
                }
                Err(_) => f.write_str("a proxy"),
            },
        }
    }
}

impl fmt::Display for ProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, hop) in self.0.iter().enumerate() {
            write!(f, "{}{hop}", if position == 0 { "" } else { ", then " })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for ProxyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Hops)
    }
}

impl<'de> Deserialize<'de> for HopConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneHop)
    }
}

struct Hops;
struct OneHop;

const EXPECTED: &str = "proxies such as [http://parent:3128, direct]";

impl<'de> Visitor<'de> for Hops {
    type Value = ProxyConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ProxyConfig, E> {
        Ok(ProxyConfig(text.split(',').map(HopConfig::of_text).collect()))
    }

    fn visit_map<A: MapAccess<'de>>(self, entry: A) -> Result<ProxyConfig, A::Error> {
        OneHop.visit_map(entry).map(|hop| ProxyConfig(vec![hop]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<ProxyConfig, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(entries)).map(ProxyConfig)
    }
}

impl<'de> Visitor<'de> for OneHop {
    type Value = HopConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a proxy such as http://parent:3128, direct, or {url: https://parent, ca_file: f}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<HopConfig, E> {
        Ok(HopConfig::of_text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, entry: A) -> Result<HopConfig, A::Error> {
        ParentConfig::deserialize(MapAccessDeserializer::new(entry)).map(|parent| HopConfig::Parent(Box::new(parent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ProxyConfig {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn one_proxy_may_stand_without_a_list() {
        let table = [
            ("http://parent:3128", "http://parent:3128"),
            ("[http://parent:3128, direct]", "http://parent:3128, then direct"),
            ("'http://parent:3128, direct'", "http://parent:3128, then direct"),
            ("{url: 'https://Parent:443/'}", "https://parent"),
            ("[{url: http://a}, http://b, direct]", "http://a, then http://b, then direct"),
            ("direct", "direct"),
            ("[]", ""),
        ];
        for (text, expected) in table {
            assert_eq!(read(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_being_repeated() {
        let table = [
            ("http://parent:3128", None),
            ("https://10.0.0.1", None),
            ("{url: http://p, auth: {username: u, password: secret}}", None),
            ("parent:3128", Some("url")),
            ("socks5://parent", Some("url")),
            ("http://parent/path", Some("url")),
            ("http://user:secret@parent", Some("url")),
            ("{url: http://p, auth: {helper: secret}}", Some("auth")),
            ("{url: http://p, auth: {username: u, password: secret, repositories: [a]}}", Some("auth")),
            ("{url: http://p, auth: [{username: u, password: p}, {username: v, password: q}]}", Some("auth")),
        ];
        for (text, expected) in table {
            let ProxyConfig(hops) = read(text);
            let [HopConfig::Parent(parent)] = &hops[..] else { panic!("{text}") };
            assert_eq!(parent.problem().map(|(key, _)| key), expected, "{text}");
            assert!(!hops[0].to_string().contains("secret"), "{text}");
        }
    }
}
