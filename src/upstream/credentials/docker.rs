//! A docker `config.json`, or Podman's `auth.json`: whose credentials it holds, or which helper knows them.
//!
//! Podman's keys may name a namespace (`quay.io/team`); the longest that fits wins. Docker Hub stands under
//! several names. Nothing of the file's content is ever repeated in an error.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::Credential;
use crate::host::Secret;
use crate::oci::{Authority, Repository};

/// What the docker tools call Docker Hub.
const HUB: &str = "https://index.docker.io/v1/";
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The parts of the file that matter here; others are docker's own.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<Secret>,
}

/// One place to look for a credential.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// Here it is.
    Credential(Credential),
    /// A helper may know.
    Helper {
        /// The helper's name, without `docker-credential-`.
        name: String,
        /// What to ask it for.
        server: String,
    },
}

impl DockerConfig {
    /// Reads the file's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("line {}, column {} is not what docker writes", error.line(), error.column()))?;
        for (key, entry) in &config.auths {
            if entry.credential().is_err() {
                return Err(format!("the auth of {} is not base64 of user:password", key.escape_debug()));
            }
        }
        Ok(config)
    }

    /// Where to look for the credentials of a repository, best first.
    pub(crate) fn leads(&self, server: &Authority, repository: &Repository) -> Vec<Lead> {
        let plain = server.short(443);
        let is_hub = HUB_NAMES.contains(&&*plain);
        let names = if is_hub { HUB_NAMES.to_vec() } else { vec![&*plain] };
        let asked = if is_hub { HUB } else { &*plain };
        let mut leads = Vec::new();
        for path in namespaces(repository) {
            leads.extend(self.entry(&names, path));
        }
        let helper = self.helpers.iter().find(|(key, _)| names.contains(&normal(key).as_str()));
        leads.extend(helper.map(|(_, name)| Lead::Helper { name: name.clone(), server: asked.to_owned() }));
        leads.extend(self.entry(&names, ""));
        let store = self.store.as_ref().filter(|name| !name.is_empty());
        leads.extend(store.map(|name| Lead::Helper { name: name.clone(), server: asked.to_owned() }));
        leads
    }

    fn entry(&self, names: &[&str], path: &str) -> Option<Lead> {
        let fits = |key: &str| {
            let key = normal(key);
            let (host, below) = key.split_once('/').unwrap_or((&key, ""));
            names.contains(&host) && below == path
        };
        let (_, entry) =
            self.auths.iter().find(|(key, entry)| fits(key) && matches!(entry.credential(), Ok(Some(_))))?;
        entry.credential().ok().flatten().map(Lead::Credential)
    }
}

impl Entry {
    /// `None` where the entry is a mere mark that a helper knows.
    fn credential(&self) -> Result<Option<Credential>, ()> {
        if let Some(token) = self.identity_token.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credential::Identity { token: token.clone() }));
        }
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let bytes = Zeroizing::new(BASE64_STANDARD.decode(auth.expose().trim()).map_err(|_| ())?);
            let text = std::str::from_utf8(&bytes).map_err(|_| ())?;
            let (user, password) = text.split_once(':').ok_or(())?;
            let password = password.trim_end_matches('\0'); // as the docker command line does
            return Ok(Some(Credential::new(user.to_owned(), Secret::new(password.to_owned()))));
        }
        let pair = self.username.clone().zip(self.password.clone());
        Ok(pair.filter(|(_, password)| !password.is_empty()).map(|(user, password)| Credential::new(user, password)))
    }
}

/// The repository and the namespaces that it is in, the longest first.
fn namespaces(repository: &Repository) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(repository.as_str()), |path| path.rsplit_once('/').map(|(above, _)| above))
}

/// A key as host and path: without a scheme, and without the version that old docker wrote behind the host.
fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/').to_ascii_lowercase();
    let bare = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2"));
    let bare = bare.filter(|host| !host.contains('/')).unwrap_or(&key);
    let (host, path) = bare.split_once('/').map_or((bare, None), |(host, path)| (host, Some(path)));
    let host = host.strip_suffix(":443").unwrap_or(host);
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnA="},
            "quay.io": {"auth": "d2hvbGU6cA=="},
            "quay.io/team": {"auth": "dGVhbTpwOnE="},
            "R.example.com:443": {"username": "u", "password": "p"},
            "acr.example.com": {"auth": "eDo=", "identitytoken": "refresh"},
            "marked.example.com": {}
        },
        "credHelpers": {"123.dkr.ecr.eu-west-1.amazonaws.com": "ecr-login"},
        "credsStore": "desktop",
        "HttpHeaders": {"User-Agent": "Docker-Client"}
    }"#;

    fn leads(server: &str, repository: &str) -> Vec<String> {
        let config = DockerConfig::parse(FILE.as_bytes()).unwrap();
        let found = config.leads(&Authority::parse(server, 443).unwrap(), &repository.parse().unwrap());
        let tell = |lead: &Lead| match lead {
            Lead::Credential(Credential::Password { user, password }) => format!("{user}:{}", password.expose()),
            Lead::Credential(Credential::Identity { token }) => format!("identity:{}", token.expose()),
            Lead::Helper { name, server } => format!("{name} {server}"),
        };
        found.iter().map(tell).collect()
    }

    #[test]
    fn the_narrowest_entry_comes_first_and_the_store_last() {
        let table: [(&str, &str, &[&str]); 8] = [
            ("docker.io", "library/alpine", &["hub:p", "desktop https://index.docker.io/v1/"]),
            ("registry-1.docker.io", "library/alpine", &["hub:p", "desktop https://index.docker.io/v1/"]),
            ("quay.io", "org/app", &["whole:p", "desktop quay.io"]),
            ("quay.io", "team/app", &["team:p:q", "whole:p", "desktop quay.io"]),
            ("quay.io", "teams/app", &["whole:p", "desktop quay.io"]),
            ("r.example.com", "a", &["u:p", "desktop r.example.com"]),
            ("acr.example.com", "a", &["identity:refresh", "desktop acr.example.com"]),
            ("marked.example.com", "a", &["desktop marked.example.com"]),
        ];
        for (server, repository, expected) in table {
            assert_eq!(leads(server, repository), expected, "{server} {repository}");
        }
        let ecr = leads("123.dkr.ecr.eu-west-1.amazonaws.com", "a");
        assert_eq!(ecr[0], "ecr-login 123.dkr.ecr.eu-west-1.amazonaws.com");
    }

    #[test]
    fn a_broken_file_is_refused_without_a_word_of_it() {
        for text in [
            r#"{"auths": {"a": {"auth": 77712}}}"#,
            r#"{"auths": "canary"}"#,
            "canary",
            r#"{"auths": {"a": {"auth": "canary!"}}}"#,
        ] {
            let problem = DockerConfig::parse(text.as_bytes()).err().unwrap();
            assert!(!problem.contains("canary") && !problem.contains("777"), "{problem}");
        }
        assert!(DockerConfig::parse(b"{}").is_ok());
    }
}
