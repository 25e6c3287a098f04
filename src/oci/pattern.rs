//! Matches a pattern of hosts: `quay.io`, `*.pkg.dev`, `*.dkr.ecr.*.amazonaws.com`, with or without a port.
//!
//! A star stands for one or more characters of a name. A leading `*.` matches subdomains at any depth, but not the parent
//! itself; an inner star stays within its label.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};

use super::text::parsed;
use super::{Authority, Host};

/// A name, an address or a pattern of names, and the port that it applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern {
    host: Shape,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Shape {
    Any,
    One(Host),
    /// Labels from the left; if the first is `*`, it stands for any number of labels.
    Labels(Vec<String>),
}

/// Text that is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host or host pattern: expected quay.io, registry.example.com:5000, *.pkg.dev or an address")]
pub struct BadPattern;

impl HostPattern {
    /// Whether `authority` matches. A pattern without a port stands for `default_port`.
    #[must_use]
    pub fn matches(&self, authority: &Authority, default_port: u16) -> bool {
        authority.port == self.port.unwrap_or(default_port) && self.matches_host(&authority.host)
    }

    /// Whether `host` matches, on any port.
    #[must_use]
    pub fn matches_host(&self, host: &Host) -> bool {
        match (&self.host, host) {
            (Shape::Any, _) => true,
            (Shape::One(one), host) => one == host,
            (Shape::Labels(labels), Host::Name(name)) => labels_match(labels, name),
            (Shape::Labels(_), Host::Address(_)) => false,
        }
    }

    /// The one host that this names, unless it is a pattern.
    #[must_use]
    pub fn exact(&self) -> Option<&Host> {
        match &self.host {
            Shape::One(host) => Some(host),
            Shape::Any | Shape::Labels(_) => None,
        }
    }

    /// The port that it applies to, if it names one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The DNS domain under which every match lies: the text right of the last star's label. `None` for an
    /// address and for a star alone.
    #[must_use]
    pub fn domain(&self) -> Option<String> {
        match &self.host {
            Shape::One(Host::Name(name)) => Some(name.to_string()),
            Shape::One(Host::Address(_)) | Shape::Any => None,
            Shape::Labels(labels) => {
                let plain: Vec<&str> =
                    labels.iter().rev().take_while(|l| !l.contains('*')).map(String::as_str).collect();
                Some(plain.into_iter().rev().collect::<Vec<_>>().join("."))
            }
        }
    }

    /// Whether there is a star in another place than the first label, so that [`HostPattern::domain`] is wider than the
    /// pattern.
    #[must_use]
    pub fn has_inner_star(&self) -> bool {
        match &self.host {
            Shape::Labels(labels) => labels[0] != "*" || labels[1..].iter().any(|label| label.contains('*')),
            Shape::Any | Shape::One(_) => false,
        }
    }
}

fn labels_match(pattern: &[String], name: &str) -> bool {
    let mut labels: Vec<&str> = name.split('.').collect();
    if pattern[0] == "*" {
        let Some(extra) = labels.len().checked_sub(pattern.len()) else { return false };
        labels.drain(..extra);
    }
    labels.len() == pattern.len() && pattern.iter().zip(labels).all(|(star, label)| label_matches(star, label))
}

/// One label with at most one star.
fn label_matches(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((head, tail)) => label.len() > head.len() + tail.len() && label.starts_with(head) && label.ends_with(tail),
    }
}

impl FromStr for HostPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text == "*" {
            return Ok(Self { host: Shape::Any, port: None });
        }
        if !text.contains('*') {
            let plain = Authority::parse(text, 0).map_err(|_| BadPattern)?;
            return Ok(Self { host: Shape::One(plain.host), port: (plain.port != 0).then_some(plain.port) });
        }
        // A pattern becomes a name when each star becomes a letter, so one grammar checks both.
        let stand_in = Authority::parse(&text.replace('*', "x"), 0).map_err(|_| BadPattern)?;
        let name = text.split(':').next().unwrap_or(text).to_ascii_lowercase();
        let labels: Vec<String> = name.trim_end_matches('.').split('.').map(str::to_owned).collect();
        let plain_end = labels.iter().rev().take_while(|label| !label.contains('*')).count();
        let one_star_each = labels.iter().all(|label| label.matches('*').count() <= 1);
        if plain_end == 0 || !one_star_each || matches!(stand_in.host, Host::Address(_)) {
            return Err(BadPattern);
        }
        Ok(Self { host: Shape::Labels(labels), port: (stand_in.port != 0).then_some(stand_in.port) })
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Shape::Any, _) => f.write_str("*"),
            (Shape::One(host), Some(port)) => Authority { host: host.clone(), port }.fmt(f),
            (Shape::One(host), None) => host.fmt(f),
            (Shape::Labels(labels), Some(port)) => write!(f, "{}:{port}", labels.join(".")),
            (Shape::Labels(labels), None) => f.write_str(&labels.join(".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_labels() {
        let table = [
            ("quay.io", "quay.io", true),
            ("quay.io", "cdn.quay.io", false),
            ("quay.io", "quay.io:5000", false),
            ("r.example.com:5000", "r.example.com:5000", true),
            ("r.example.com:5000", "r.example.com", false),
            ("*.pkg.dev", "us-docker.pkg.dev", true),
            ("*.pkg.dev", "a.b.pkg.dev", true),
            ("*.pkg.dev", "pkg.dev", false),
            ("*.pkg.dev", "evilpkg.dev", false),
            ("*.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.eu-west-1.amazonaws.com", true),
            ("*.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.a.b.amazonaws.com", false),
            ("*.dkr.ecr.*.amazonaws.com", "dkr.ecr.eu-west-1.amazonaws.com", false),
            ("cdn*.quay.io", "cdn01.quay.io", true),
            ("cdn*.quay.io", "cdn.quay.io", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("*.pkg.dev", "10.0.0.1", false),
            ("*", "anything.example", true),
        ];
        for (pattern, host, expected) in table {
            let parsed: HostPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(&Authority::parse(host, 443).unwrap(), 443), expected, "{pattern} {host}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in
            ["", "*.*.", "**.pkg.dev", "*.*", "a*b*c.example.com", "*.1.2", "x.*", "*.pkg.dev/path", "quay.io/org"]
        {
            assert_eq!(text.parse::<HostPattern>(), Err(BadPattern), "{text}");
        }
    }

    #[test]
    fn the_domain_is_what_stands_right_of_the_last_star() {
        let table = [
            ("quay.io", "quay.io", false),
            ("*.pkg.dev", "pkg.dev", false),
            ("*.dkr.ecr.*.amazonaws.com", "amazonaws.com", true),
        ];
        for (text, domain, inner) in table {
            let pattern: HostPattern = text.parse().unwrap();
            assert_eq!(pattern.domain().as_deref(), Some(domain));
            assert_eq!(pattern.has_inner_star(), inner);
        }
    }
}
