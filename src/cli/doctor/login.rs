//! Finds the user and password that this machine has for a mirror.
//!
//! Never: run a credential helper; give one mirror's password to another host.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use http::HeaderValue;

use super::proxy::percent_decoded;
use crate::host::Secret;
use crate::oci::{Authority, Repository};
use crate::setup::{BadMirror, MirrorUrl};
use crate::upstream::{Credential, DockerConfig, Lead};

/// A mirror's address as a person gives it, with or without a user and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MirrorAddress {
    pub(super) url: MirrorUrl,
    credential: Option<Credential>,
}

/// What this machine has for a mirror.
#[derive(Clone, Debug, Default)]
pub(super) struct MirrorLogin {
    /// `Authorization`
    pub(super) basic: Option<HeaderValue>,
    /// A credential helper may know it.
    pub(super) is_with_helper: bool,
}

impl FromStr for MirrorAddress {
    type Err = BadMirror;

    fn from_str(text: &str) -> Result<Self, BadMirror> {
        let Some((scheme, rest)) = text.split_once("://") else { return Err(BadMirror) };
        let end = rest.find('/').unwrap_or(rest.len());
        let Some((login, host)) = rest[..end].rsplit_once('@') else {
            return text.parse().map(|url| Self { url, credential: None });
        };
        let url = format!("{scheme}://{host}{}", &rest[end..]).parse()?;
        let (user, password) = login.split_once(':').ok_or(BadMirror)?;
        let decoded = |text: &str| String::from_utf8(percent_decoded(text)).map_err(|_| BadMirror);
        let credential = Credential::new(decoded(user)?, Secret::new(decoded(password)?));
        Ok(Self { url, credential: Some(credential) })
    }
}

impl MirrorAddress {
    /// What it has itself, else what this machine's clients have for it.
    pub(super) fn login(&self) -> MirrorLogin {
        match &self.credential {
            Some(credential) => MirrorLogin { basic: credential.basic(), is_with_helper: false },
            None => kept(&self.url),
        }
    }
}

/// What `docker login`, or that of Podman, has kept for the mirror at `url`.
pub(super) fn kept(url: &MirrorUrl) -> MirrorLogin {
    let default = if url.is_tls() { 443 } else { 80 };
    let Ok(to) = Authority::parse(url.authority(), default) else { return MirrorLogin::default() };
    files().iter().map(|file| in_file(&fs::read(file).unwrap_or_default(), &to)).fold(
        MirrorLogin::default(),
        |found, next| MirrorLogin {
            basic: found.basic.or(next.basic),
            is_with_helper: found.is_with_helper || next.is_with_helper,
        },
    )
}

fn in_file(text: &[u8], to: &Authority) -> MirrorLogin {
    let (Ok(config), Ok(any)) = (DockerConfig::parse(text), "any".parse::<Repository>()) else {
        return MirrorLogin::default();
    };
    let leads = config.leads(to, &any);
    let basic = leads.iter().find_map(|lead| if let Lead::Credential(found) = lead { found.basic() } else { None });
    MirrorLogin { basic, is_with_helper: leads.iter().any(|lead| matches!(lead, Lead::Helper { .. })) }
}

fn files() -> Vec<PathBuf> {
    let below = |variable: &str, file: &str| {
        let value = std::env::var_os(variable).filter(|value| !value.is_empty())?;
        Some(if file.is_empty() { PathBuf::from(value) } else { PathBuf::from(value).join(file) })
    };
    let docker = below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json"));
    let podman = below("REGISTRY_AUTH_FILE", "").or_else(|| below("XDG_RUNTIME_DIR", "containers/auth.json"));
    docker.into_iter().chain(podman).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_no_part_of_the_url() {
        let table = [
            ("http://m.example:5000", Some(("http://m.example:5000", ""))),
            ("https://ci:p%40ss@m.example/v2/hub", Some(("https://m.example/v2/hub", "Basic Y2k6cEBzcw=="))),
            ("http://ci@m.example", None),
            ("m.example", None),
            ("http://m.example/a@b", None),
        ];
        for (text, expected) in table {
            let told = text.parse::<MirrorAddress>().ok().map(|address| {
                let basic = address.credential.as_ref().and_then(Credential::basic);
                (address.url.to_string(), basic.map(|basic| basic.to_str().unwrap().to_owned()).unwrap_or_default())
            });
            assert_eq!(told, expected.map(|(url, basic)| (url.to_owned(), basic.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_docker_has_kept_for_this_very_mirror_is_found() {
        let to = Authority::parse("m.example:5000", 80).unwrap();
        let found = |text: &str| {
            let MirrorLogin { basic, is_with_helper } = in_file(text.as_bytes(), &to);
            (basic.is_some(), is_with_helper)
        };
        assert_eq!(found(r#"{"auths":{"m.example:5000":{"auth":"dTpw"}}}"#), (true, false));
        assert_eq!(
            found(r#"{"auths":{"m.example:5001":{"auth":"dTpw"},"m.example":{"auth":"dTpw"}}}"#),
            (false, false)
        );
        assert_eq!(found(r#"{"auths":{"m.example:5000":{}},"credsStore":"pass"}"#), (false, true));
        assert_eq!(found(""), (false, false));
    }
}
