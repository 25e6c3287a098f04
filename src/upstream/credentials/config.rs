//! The held credentials of a registry or an endpoint, as the configuration writes them.

use std::path::PathBuf;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::host::{Period, Secret};
use crate::oci::RepositoryPattern;

/// Entries of `auth:`, in order. One entry may stand without a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held(pub Vec<CredentialConfig>);

/// One entry: where a credential comes from, and for which repositories.
///
/// Exactly one source: `username` with one of `password`, `password_file` and `password_env`; or
/// `docker_config`; or `helper`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialConfig {
    /// The user.
    pub username: Option<String>,
    /// The password itself.
    pub password: Option<Secret>,
    /// A file whose first line is the password; read again when it changes.
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds the password; read at start and on reload.
    pub password_env: Option<String>,
    /// A docker `config.json` or Podman `auth.json`; read again when it changes. Its `credHelpers` and
    /// `credsStore` are run.
    pub docker_config: Option<PathBuf>,
    /// A credential helper: `ecr-login` means the program `docker-credential-ecr-login` on the PATH; a path is
    /// run as it stands.
    pub helper: Option<String>,
    /// How long a helper's answer is used before it is asked again. Default: 30 min.
    pub lifetime: Option<Period>,
    /// Repositories that this credential may serve to callers who have not proven anything themselves; without
    /// the key, and elsewhere, it serves public repositories only. The narrowest entry wins.
    pub repositories: Vec<RepositoryPattern>,
    /// The home directory that helpers get where this process has none that can be written to.
    #[serde(skip)]
    pub home: Option<PathBuf>,
}

/// Where an entry's credential comes from.
pub(crate) enum Origin<'a> {
    Password(&'a str, &'a Secret),
    File(&'a str, &'a PathBuf),
    Variable(&'a str, &'a str),
    Docker(&'a PathBuf),
    Helper(&'a str),
}

impl CredentialConfig {
    /// What is wrong with the entry as a whole: the key at fault, and what was expected.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let passwords = [
            ("password", self.password.is_some()),
            ("password_file", self.password_file.is_some()),
            ("password_env", self.password_env.is_some()),
        ];
        let given: Vec<&'static str> = passwords.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        let whole = [("docker_config", self.docker_config.is_some()), ("helper", self.helper.is_some())];
        let sources: Vec<&'static str> = whole.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        match (sources.as_slice(), self.username.as_deref(), given.as_slice()) {
            ([], None, []) => {
                Some(("", "names no credentials; expected username with password_file, docker_config or helper"))
            }
            ([], None, [key, ..]) => Some((key, "has no user; expected username as well")),
            ([], Some(""), _) => Some(("username", "is empty; expected a user")),
            ([], Some(name), _) if name.contains(':') || name.chars().any(char::is_control) => {
                Some(("username", "not a valid user name; expected a name without colons and control characters"))
            }
            ([], Some(_), []) => {
                Some(("username", "has no password; expected password_file, password_env or password as well"))
            }
            ([], Some(_), [_]) if self.password.as_ref().is_some_and(Secret::is_empty) => {
                Some(("password", "is empty; expected a password"))
            }
            ([], Some(_), [_]) if self.lifetime.is_some() => {
                Some(("lifetime", "applies only to a helper; expected this key removed"))
            }
            ([], Some(_), [_]) => None,
            ([], Some(_), [_, key, ..]) => Some((key, "conflicts with another password; expected only one of them")),
            ([key], None, []) if *key == "helper" && !self.helper.as_deref().is_some_and(super::helper::is_name) => {
                Some(("helper", "not a credential helper; expected a name such as ecr-login, or the path of a program"))
            }
            ([_], None, []) if self.lifetime.is_some_and(|lifetime| lifetime.0.is_zero()) => {
                Some(("lifetime", "found 0s; expected more than 0s, such as 30m"))
            }
            ([_], None, []) => None,
            ([_], Some(_), _) => Some(("username", "conflicts with another source; expected one source per entry")),
            ([_], None, [key, ..]) => Some((key, "conflicts with another source; expected one source per entry")),
            ([_, key, ..], ..) => Some((key, "conflicts with another source; expected one source per entry")),
        }
    }

    /// Whether the entry's credential is the same whichever host asks for it.
    #[must_use]
    pub fn is_for_one_host(&self) -> bool {
        self.docker_config.is_none() && self.helper.is_none()
    }

    /// Whether it is a user and a password and nothing more, as a proxy asks for them.
    #[must_use]
    pub fn is_login(&self) -> bool {
        self.is_for_one_host() && self.repositories.is_empty() && self.lifetime.is_none()
    }

    pub(crate) fn origin(&self) -> Option<Origin<'_>> {
        if self.problem().is_some() {
            return None;
        }
        if let Some(file) = &self.docker_config {
            return Some(Origin::Docker(file));
        }
        if let Some(helper) = &self.helper {
            return Some(Origin::Helper(helper));
        }
        let user = self.username.as_deref()?;
        match (&self.password, &self.password_file, &self.password_env) {
            (Some(password), _, _) => Some(Origin::Password(user, password)),
            (_, Some(file), _) => Some(Origin::File(user, file)),
            (_, _, Some(name)) => Some(Origin::Variable(user, name)),
            (None, None, None) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Held;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("credentials such as {username: u, password_file: f}, or a list of them")
    }

    /// Not repeated: it may be a password in the wrong place.
    fn visit_str<E: Error>(self, _: &str) -> Result<Held, E> {
        Err(E::custom("found a word; expected credentials such as {username: u, password_file: f}, or a list of them"))
    }

    fn visit_map<A: MapAccess<'de>>(self, entry: A) -> Result<Held, A::Error> {
        CredentialConfig::deserialize(MapAccessDeserializer::new(entry)).map(|entry| Held(vec![entry]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<Held, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(entries)).map(Held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<&'static str> {
        serde_yaml::from_str::<CredentialConfig>(text).unwrap().problem().map(|(key, _)| key)
    }

    #[test]
    fn an_entry_has_exactly_one_source() {
        let table = [
            ("{username: u, password_file: f}", None),
            ("{username: u, password_env: E}", None),
            ("{username: u, password: p, repositories: [team/*]}", None),
            ("{docker_config: f}", None),
            ("{helper: ecr-login, lifetime: 1h}", None),
            ("{helper: /usr/bin/docker-credential-x}", None),
            ("{}", Some("")),
            ("{username: u}", Some("username")),
            ("{username: 'a:b', password: p}", Some("username")),
            ("{username: '', password: p}", Some("username")),
            ("{username: u, password: ''}", Some("password")),
            ("{password_file: f}", Some("password_file")),
            ("{username: u, password: p, password_env: E}", Some("password_env")),
            ("{username: u, password: p, lifetime: 1h}", Some("lifetime")),
            ("{username: u, password: p, helper: h}", Some("username")),
            ("{password: p, helper: h}", Some("password")),
            ("{helper: h, docker_config: f}", Some("helper")),
            ("{helper: 'a b'}", Some("helper")),
            ("{helper: h, lifetime: 0s}", Some("lifetime")),
        ];
        for (text, expected) in table {
            assert_eq!(problem(text), expected, "{text}");
        }
    }

    #[test]
    fn one_entry_may_stand_without_a_list() {
        let one: Held = serde_yaml::from_str("{helper: h}").unwrap();
        let list: Held = serde_yaml::from_str("[{helper: h}]").unwrap();
        assert_eq!(one, list);
        let error = serde_yaml::from_str::<Held>("hunter2").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
