//! Configures what names mean at a mirror, and its certificate.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::name::MirrorTarget;
use crate::oci::RepositoryPattern;

/// The `mirror:` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MirrorConfig {
    /// What a name without a registry means. Default: docker.io, if that is configured.
    pub default: Option<MirrorMembers>,
    /// Whether `/v2/_catalog` at the mirror lists the repositories that the cache knows and its client may read. Default: no.
    pub catalog: bool,
    /// The mirror's certificate. Default: leaves of the CA for the hosts in `names` and the machine's own names.
    pub tls: Option<MirrorTls>,
    /// A host, a host with a path, or a path on every host, and the registry, part of one or group that it stands for.
    pub names: BTreeMap<String, MirrorMembers>,
}

/// A certificate of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorTls {
    /// The certificate and its chain, leaf first, in PEM. Read again when it changes.
    pub cert_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
}

/// What a name stands for: one registry, or several in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorMembers(pub Vec<MirrorMember>);

/// One registry that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorMember {
    /// The registry's host, or a part of it: `registry.example.com/team`.
    pub registry: String,
    /// The only repositories that it is asked for, by the registry's own names. Default: all.
    pub repositories: Option<Vec<RepositoryPattern>>,
}

impl MirrorConfig {
    /// Each name, with the registry for which it stands if that is one as a whole.
    #[must_use]
    pub fn written_names(&self) -> Vec<(String, Option<String>)> {
        let whole = |members: &MirrorMembers| match members.0.as_slice() {
            [MirrorMember { registry, repositories: None }] => {
                let target: MirrorTarget = registry.parse().ok()?;
                target.part.is_none().then(|| target.authority.short(443).to_string())
            }
            _ => None,
        };
        self.names.iter().map(|(name, members)| (name.clone(), whole(members))).collect()
    }
}

impl MirrorMembers {
    /// One registry as a whole.
    pub(crate) fn of_registry(registry: &str) -> Self {
        Self(vec![MirrorMember::whole(registry)])
    }
}

impl MirrorMember {
    fn whole(registry: &str) -> Self {
        Self { registry: registry.to_owned(), repositories: None }
    }
}

impl<'de> Deserialize<'de> for MirrorMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsWritten)
    }
}

struct AsWritten;

impl<'de> Visitor<'de> for AsWritten {
    type Value = MirrorMembers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a registry such as quay.io or quay.io/org, {registry: quay.io, repositories: [org/*]}, or a list of them",
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<MirrorMembers, E> {
        Ok(MirrorMembers::of_registry(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, entry: A) -> Result<MirrorMembers, A::Error> {
        MirrorMember::deserialize(MapAccessDeserializer::new(entry)).map(|member| MirrorMembers(vec![member]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<MirrorMembers, A::Error> {
        let entries: Vec<Entry> = Vec::deserialize(SeqAccessDeserializer::new(entries))?;
        Ok(MirrorMembers(entries.into_iter().map(|entry| entry.0).collect()))
    }
}

/// One entry of a list.
struct Entry(MirrorMember);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOfSeveral).map(Self)
    }
}

struct OneOfSeveral;

impl<'de> Visitor<'de> for OneOfSeveral {
    type Value = MirrorMember;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a registry such as quay.io or quay.io/org, or {registry: quay.io, repositories: [org/*]}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<MirrorMember, E> {
        Ok(MirrorMember::whole(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, entry: A) -> Result<MirrorMember, A::Error> {
        MirrorMember::deserialize(MapAccessDeserializer::new(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Option<usize>)>, String> {
        let members: MirrorMembers = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        Ok(members.0.into_iter().map(|member| (member.registry, member.repositories.map(|list| list.len()))).collect())
    }

    #[test]
    fn a_name_stands_for_a_registry_a_bounded_one_or_several() {
        let one = |name: &str, bound| (name.to_owned(), bound);
        assert_eq!(read("quay.io/org"), Ok(vec![one("quay.io/org", None)]));
        assert_eq!(read("{registry: quay.io, repositories: [org/*]}"), Ok(vec![one("quay.io", Some(1))]));
        let list = "[docker.io, {registry: quay.io, repositories: [a/*, b/*]}, {registry: ghcr.io}]";
        let all = vec![one("docker.io", None), one("quay.io", Some(2)), one("ghcr.io", None)];
        assert_eq!(read(list), Ok(all));
    }

    #[test]
    fn a_name_of_a_registry_as_a_whole_is_told_from_others() {
        let text = "names: {/r: 'r.example:5000', /q: 'quay.io:443', /p: quay.io/org, /g: [quay.io, ghcr.io], \
                    /b: {registry: quay.io, repositories: [a]}}";
        let config: MirrorConfig = serde_yaml::from_str(text).unwrap();
        let meant = |name: &str| {
            config.written_names().into_iter().find(|(key, _)| key == name).and_then(|(_, registry)| registry)
        };
        assert_eq!((meant("/r").as_deref(), meant("/q").as_deref()), (Some("r.example:5000"), Some("quay.io")));
        assert_eq!((meant("/p"), meant("/g"), meant("/b")), (None, None, None));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["5", "null", "[[quay.io]]", "{registry: quay.io, repos: []}", "{repositories: ['*']}", "[7]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
