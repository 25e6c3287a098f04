//! Says what is known of a mirror on its own machine, and finds the path there that stands for a registry.

use super::MirrorUrl;

/// Something that a mirror's configuration has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnMirror {
    /// A registry, by its host; or a pattern.
    Registry(String),
    /// A key of `mirror.names`.
    Name {
        /// The key, as it is written: a host, a host with a path, or a path.
        name: String,
        /// The registry for which it stands, if that is one as a whole.
        registry: Option<String>,
    },
}

impl OnMirror {
    /// The registries among `known`.
    pub(super) fn registries(known: &[Self]) -> impl Iterator<Item = &str> {
        known.iter().filter_map(|one| match one {
            Self::Registry(name) => Some(name.as_str()),
            Self::Name { .. } => None,
        })
    }

    /// The names among `known`.
    pub(super) fn names(known: &[Self]) -> impl Iterator<Item = &str> {
        known.iter().filter_map(|one| match one {
            Self::Registry(_) => None,
            Self::Name { name, .. } => Some(name.trim_end_matches('/')),
        })
    }
}

/// What stands for `registry` at `mirror` where nothing but the path can say so: its host, or, since no path takes a port, a name
/// that is `known` to mean it.
pub(super) fn path_of(mirror: &MirrorUrl, registry: &str, known: &[OnMirror]) -> Option<String> {
    if mirror.registry() == Some(registry) {
        return Some(mirror.location());
    }
    if !registry.contains(':') {
        return Some(format!("{}/{registry}", mirror.location()));
    }
    known.iter().find_map(|one| match one {
        OnMirror::Name { name, registry: Some(meant) } if meant == registry && !mirror.has_path() => at(mirror, name),
        _ => None,
    })
}

/// Where a name leads at this address, if it is a name of this address.
fn at(mirror: &MirrorUrl, name: &str) -> Option<String> {
    let (host, path) =
        name.trim_end_matches('/').split_once('/').map_or((name, None), |(host, path)| (host, Some(path)));
    let is_here = |own: &str| host.eq_ignore_ascii_case(own);
    let is_ours = host.is_empty() || is_here(mirror.authority()) || is_here(mirror.host());
    is_ours.then(|| [Some(mirror.authority()), path].into_iter().flatten().collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_with_a_port_is_a_name_of_the_mirror_or_nothing() {
        let name = |name: &str, registry: Option<&str>| OnMirror::Name {
            name: name.to_owned(),
            registry: registry.map(str::to_owned),
        };
        let known = [
            name("/part", None),
            name("other.example/x", Some("r.example:5000")),
            name("/reg/", Some("r.example:5000")),
            name("m.example", Some("s.example:5000")),
            name("m.example:9/t", Some("t.example:5000")),
            name("/q", Some("quay.io")),
        ];
        let table = [
            ("http://m.example:9", "quay.io", Some("m.example:9/quay.io")),
            ("http://m.example:9", "r.example:5000", Some("m.example:9/reg")),
            ("http://m.example:9", "s.example:5000", Some("m.example:9")),
            ("http://m.example:9", "t.example:5000", Some("m.example:9/t")),
            ("http://m.example", "t.example:5000", None),
            ("http://m.example:9", "u.example:5000", None),
            ("http://m.example:9/v2/quay.io", "quay.io", Some("m.example:9/quay.io")),
        ];
        for (url, registry, expected) in table {
            assert_eq!(path_of(&url.parse().unwrap(), registry, &known).as_deref(), expected, "{url} {registry}");
        }
    }
}
