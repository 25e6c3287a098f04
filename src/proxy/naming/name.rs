//! Parses the keys and values of `mirror.names`: the names of a mirror, and the registries that they stand for.

use std::str::FromStr;

use crate::oci::{Authority, Host, Repository};

/// A key of `mirror.names`: a host, a host with a path, or a path on every host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MirrorName {
    /// The host; `None` for a path on every host.
    pub host: Option<Host>,
    /// The port, where the name is for that one only.
    pub port: Option<u16>,
    /// The first components of the repositories' names.
    pub path: Option<Repository>,
}

/// A value of `mirror.names`: a registry's host, and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorTarget {
    /// The registry's host.
    pub authority: Authority,
    /// The components that the registry's own names have before what the client writes.
    pub part: Option<Repository>,
}

/// Text that is not such a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a name of a mirror; expected a host such as docker.example.org, a host with a path such as \
     mirror.example.org/team, or a path such as /hub (without /v2)"
)]
pub struct BadMirrorName;

/// Text that is not a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a registry; expected its host such as quay.io, or a part of it such as quay.io/org")]
pub struct BadMirrorTarget;

impl FromStr for MirrorName {
    type Err = BadMirrorName;

    fn from_str(text: &str) -> Result<Self, BadMirrorName> {
        let (host, path) = match text.split_once('/') {
            Some((host, path)) => (host, Some(path.strip_suffix('/').unwrap_or(path))),
            None => (text, None),
        };
        let path = match path {
            None | Some("") if host.is_empty() => return Err(BadMirrorName),
            None | Some("") => None,
            Some(path) => Some(path.parse::<Repository>().map_err(|_| BadMirrorName)?),
        };
        if path.as_ref().is_some_and(|path| path.as_str().split('/').next() == Some("v2")) {
            return Err(BadMirrorName);
        }
        if host.is_empty() {
            return Ok(Self { host: None, port: None, path });
        }
        let authority = Authority::parse(host, 0).map_err(|_| BadMirrorName)?;
        Ok(Self { host: Some(authority.host), port: Some(authority.port).filter(|port| *port != 0), path })
    }
}

impl FromStr for MirrorTarget {
    type Err = BadMirrorTarget;

    fn from_str(text: &str) -> Result<Self, BadMirrorTarget> {
        let (host, part) = match text.split_once('/') {
            Some((host, "")) => (host, None),
            Some((host, part)) => (host, Some(part.strip_suffix('/').unwrap_or(part))),
            None => (text, None),
        };
        let part = part.map(|part| part.parse().map_err(|_| BadMirrorTarget)).transpose()?;
        Ok(Self { authority: Authority::parse(host, 443).map_err(|_| BadMirrorTarget)?, part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_host_a_host_with_a_path_or_a_path() {
        let table = [
            ("docker.example.org", Some(("docker.example.org", None, None))),
            ("Docker.Example.org.", Some(("docker.example.org", None, None))),
            ("m.example.org:5000", Some(("m.example.org", Some(5000), None))),
            ("m.example.org/team", Some(("m.example.org", None, Some("team")))),
            ("m.example.org:5000/a/b/", Some(("m.example.org", Some(5000), Some("a/b")))),
            ("m.example.org/", Some(("m.example.org", None, None))),
            ("/hub", Some(("", None, Some("hub")))),
            ("10.0.0.5", Some(("10.0.0.5", None, None))),
            ("", None),
            ("/", None),
            ("/Hub", None),
            ("/v2/hub", None),
            ("m.example.org/v2", None),
            ("/a//b", None),
            ("/a/../b", None),
            ("https://m.example.org", None),
            ("*.example.org", None),
            ("m.example.org/a b", None),
            ("m.example.org:0x/a", None),
        ];
        for (text, expected) in table {
            let parsed = text.parse::<MirrorName>().ok();
            let host = |name: &MirrorName| name.host.as_ref().map(ToString::to_string).unwrap_or_default();
            let parts = parsed.as_ref().map(|name| (host(name), name.port, name.path.clone().map(|p| p.to_string())));
            let expected = expected.map(|(host, port, path)| (host.to_owned(), port, path.map(str::to_owned)));
            assert_eq!(parts, expected, "{text}");
        }
    }

    #[test]
    fn a_target_is_a_registry_or_a_part_of_one() {
        let table = [
            ("quay.io", Some(("quay.io:443", None))),
            ("r.example.com:5000/team/a", Some(("r.example.com:5000", Some("team/a")))),
            ("quay.io/", Some(("quay.io:443", None))),
            ("*.pkg.dev", None),
            ("quay.io/Org", None),
            ("quay.io//", None),
            ("https://quay.io", None),
            ("", None),
        ];
        for (text, expected) in table {
            let parsed = text.parse::<MirrorTarget>().ok();
            let parsed = parsed.map(|target| (target.authority.to_string(), target.part.map(|part| part.to_string())));
            let expected = expected.map(|(host, part)| (host.to_owned(), part.map(str::to_owned)));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
