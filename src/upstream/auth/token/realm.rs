//! The URL of a token service, and whether held credentials may go there.
//!
//! Threat: a registry, or somebody in its name, sends a challenge whose realm collects passwords. Defence:
//! a credential goes to the host that it is for, or to a URL that a preset or the operator lists, exactly.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::PathAndQuery;
use serde::de::{Deserialize, Deserializer};

use crate::oci::{Authority, parsed};

/// An https URL of a token service.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Realm {
    authority: Authority,
    target: PathAndQuery,
}

/// Text that is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token service URL; expected https://host[:port]/path, such as https://login.example.com/token")]
pub struct BadRealm;

impl Realm {
    /// Its host and port.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn path(&self) -> &str {
        self.target.path()
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// Whether credentials for `home` may be sent here: it is that host itself, or listed.
    #[must_use]
    pub fn is_trusted(&self, home: &Authority, listed: &[Self]) -> bool {
        self.authority == *home || listed.iter().any(|one| one.authority == self.authority && one.path() == self.path())
    }
}

impl FromStr for Realm {
    type Err = BadRealm;

    fn from_str(text: &str) -> Result<Self, BadRealm> {
        if text.contains('#') {
            return Err(BadRealm);
        }
        let uri: Uri = text.parse().map_err(|_| BadRealm)?;
        let authority = uri.authority().ok_or(BadRealm)?.as_str();
        if uri.scheme_str() != Some("https") || authority.contains('@') {
            return Err(BadRealm);
        }
        let authority = Authority::parse(authority, 443).map_err(|_| BadRealm)?;
        Ok(Self { authority, target: uri.path_and_query().cloned().ok_or(BadRealm)? })
    }
}

impl<'de> Deserialize<'de> for Realm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

/// Without the query: a service may have put anything there.
impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority.short(443), self.target.path())
    }
}

impl fmt::Debug for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm(text: &str) -> Realm {
        text.parse().unwrap()
    }

    #[test]
    fn only_https_urls_without_credentials_are_realms() {
        for text in ["https://auth.docker.io/token", "https://r.example.com:5000/v2/token?x=1", "https://h"] {
            assert!(text.parse::<Realm>().is_ok(), "{text}");
        }
        for text in [
            "",
            "auth",
            "/token",
            "http://a/token",
            "https://u:p@a/t",
            "https://u@a/t",
            "https:///t",
            "ftp://a/t",
            "https://a/#x",
            "https://a b/",
        ] {
            assert_eq!(text.parse::<Realm>(), Err(BadRealm), "{text}");
        }
    }

    #[test]
    fn credentials_go_home_or_where_a_list_says() {
        let home = Authority::parse("r.example.com", 443).unwrap();
        let listed = [realm("https://login.example.com/token")];
        let table = [
            ("https://r.example.com/any/path", true),
            ("https://R.example.com:443/", true),
            ("https://login.example.com/token?service=x", true),
            ("https://login.example.com/other", false),
            ("https://login.example.com:444/token", false),
            ("https://r.example.com:444/token", false),
            ("https://evil.example.com/token", false),
            ("https://r.example.com.evil.example/token", false),
        ];
        for (text, expected) in table {
            assert_eq!(realm(text).is_trusted(&home, &listed), expected, "{text}");
        }
    }

    #[test]
    fn a_realm_is_told_without_its_query() {
        assert_eq!(realm("https://a.example/t?key=secret").to_string(), "https://a.example/t");
    }
}
