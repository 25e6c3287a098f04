//! Which credential obtained a bearer: token requests pass through us, so their answers are known.
//!
//! A thousand nodes with one pull secret have a thousand bearers, and are one principal. What is kept is MACs
//! under a key that dies with the process; never a token, never a password.
//! Threat: a bearer that stands for more or less than is thought. Defence: it is bound only where the request
//! said nothing but a credential we understand, counts only at registries whose own token service issued it,
//! and only in the repositories that it was asked for; any other bearer is a principal of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE,
    HOST, HeaderMap, HeaderName, HeaderValue, PRAGMA, TE, TRANSFER_ENCODING, USER_AGENT, VIA,
};
use http::{Method, Uri};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::guests::LocalTokens;
use super::registry::Registry;
use crate::cache::{Cache, GrantsConfig, Lives};
use crate::host::Secret;
use crate::oci::{Authority, Repository};

/// A token's life where its service says nothing (distribution-spec, "Token Authentication").
const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(12 * 3600);
/// So many bearers are remembered.
const CAPACITY: u64 = 200_000;
/// What says nothing of who asks.
const PLAIN: [HeaderName; 14] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    PRAGMA,
    TE,
    TRANSFER_ENCODING,
    USER_AGENT,
    VIA,
    HeaderName::from_static("docker-distribution-api-version"),
];
const PLAIN_PARAMETERS: [&str; 6] = ["service", "scope", "account", "client_id", "offline_token", "access_type"];

/// Whose a request is, as far as its `Authorization` header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// It has none; or one of ours, which is nobody's at a registry.
    Nobody,
    /// It has a token that anybody is given. `lapsed`: its time is over.
    Anybody { lapsed: bool },
    /// A credential, by its MAC, or a token that it obtained.
    Credential { mac: [u8; 32], lapsed: bool },
    /// Something else: it stands for itself.
    Itself,
}

/// Who asks for a token, and for which repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// The MAC of the credential; `None` for nobody's.
    credential: Option<[u8; 32]>,
    /// `None`: all of them, as services that know none want it (`scope=aws`).
    repositories: Option<Arc<[String]>>,
}

/// The bearers that were handed out through us.
#[derive(Clone)]
pub(super) struct Bearers(moka::sync::Cache<[u8; 32], Arc<Bound>>);

struct Bound {
    leg: Leg,
    /// Who issued it.
    realm: Authority,
    since: Instant,
    life: Duration,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<f64>,
}

impl Bearers {
    pub(super) fn new() -> Self {
        let longest = MOST + GrantsConfig::LONGEST.0;
        Self(moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(longest).build())
    }

    /// Notes the tokens of an answer of `realm`. Answers whether it had any.
    pub(super) fn bind(&self, cache: &Cache, realm: &Authority, leg: &Leg, body: &[u8]) -> bool {
        let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return false };
        let life = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(LEAST);
        let bound = Bound { leg: leg.clone(), realm: realm.clone(), since: Instant::now(), life: life.min(MOST) };
        let bound = Arc::new(bound);
        let tokens = [answer.token, answer.access_token].into_iter().flatten().filter(|token| !token.is_empty());
        tokens.map(|token| self.0.insert(key(cache, token.expose()), bound.clone())).count() > 0
    }

    /// Whose `header` is, at `registry`, asked as `asked` for something in `repository`.
    pub(super) fn holder(
        &self,
        cache: &Cache,
        registry: &Registry,
        asked: &Authority,
        repository: &Repository,
        header: Option<&HeaderValue>,
    ) -> Holder {
        let Some(header) = header else { return Holder::Nobody };
        if LocalTokens::within(header).is_some() {
            return Holder::Nobody;
        }
        if let Some(basic) = basic(header) {
            return Holder::Credential { mac: cache.mac(&[b"password", &basic]), lapsed: false };
        }
        let bound = bearer(header).and_then(|token| self.0.get(&key(cache, token)));
        let Some(bound) = bound.filter(|bound| registry.is_served_by(&bound.realm, asked)) else {
            return Holder::Itself;
        };
        let age = bound.since.elapsed();
        if !bound.leg.reaches(repository) || age > bound.life + remembered(registry.lives()) {
            return Holder::Itself;
        }
        let lapsed = age > bound.life;
        bound.leg.credential.map_or(Holder::Anybody { lapsed }, |mac| Holder::Credential { mac, lapsed })
    }
}

/// A token that has expired stands for its credential as long as that may have a grant.
fn remembered(lives: Lives) -> Duration {
    lives.life.max(lives.outage)
}

impl Leg {
    /// What a request for a token says. `form` is a POST's body. `None` where it says more than we understand.
    pub(super) fn of(cache: &Cache, method: &Method, uri: &Uri, headers: &HeaderMap, form: &[u8]) -> Option<Self> {
        let is_plain = |name: &HeaderName| PLAIN.contains(name) || *name == AUTHORIZATION;
        if !headers.keys().all(is_plain) || headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return None;
        }
        let query = parameters(uri.query().unwrap_or_default().as_bytes());
        if !query.iter().all(|(name, _)| PLAIN_PARAMETERS.contains(&name.as_str())) {
            return None;
        }
        let authorization = headers.get(AUTHORIZATION);
        if *method == Method::GET {
            let credential = match authorization {
                Some(header) => Some(cache.mac(&[b"password", &basic(header)?])),
                None => None,
            };
            return Some(Self { credential, repositories: repositories(&query) });
        }
        if *method != Method::POST || authorization.is_some() {
            return None;
        }
        let form = parameters(form);
        let of = |name: &str| {
            let mut found = form.iter().filter(|(key, _)| key == name);
            found.next().filter(|_| found.next().is_none()).map(|(_, value)| value.as_str())
        };
        let credential = match of("grant_type")? {
            "password" => {
                let text = Zeroizing::new(format!("{}:{}", of("username")?, of("password")?));
                cache.mac(&[b"password", text.as_bytes()])
            }
            "refresh_token" => cache.mac(&[b"identity", of("refresh_token")?.as_bytes()]),
            _ => return None,
        };
        let asked: Vec<_> = query.iter().chain(&form).cloned().collect();
        Some(Self { credential: Some(credential), repositories: repositories(&asked) })
    }

    fn reaches(&self, repository: &Repository) -> bool {
        let Some(repositories) = &self.repositories else { return true };
        repositories.iter().any(|one| one == repository.as_str())
    }
}

/// The repositories of all scopes, of which there may be none; `None` where scopes are of something else.
fn repositories(parameters: &[(String, Zeroizing<String>)]) -> Option<Arc<[String]>> {
    let scopes = || parameters.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
    let names = scopes().filter_map(|scope| scope.strip_prefix("repository:")?.rsplit_once(':'));
    let names: Arc<[String]> = names.map(|(name, _)| name.to_owned()).collect();
    let is_of_something_else = names.is_empty() && scopes().any(|scope| !scope.is_empty());
    (!is_of_something_else).then_some(names)
}

/// `name=value&...`, decoded; what is no text is left out.
fn parameters(text: &[u8]) -> Vec<(String, Zeroizing<String>)> {
    let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let decoded = pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(at);
        Some((decoded(name)?, Zeroizing::new(decoded(value.get(1..).unwrap_or_default())?)))
    });
    decoded.collect()
}

fn decoded(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let hex = || u8::from_str_radix(std::str::from_utf8(tail.get(..2)?).ok()?, 16).ok();
        let (byte, after) = match first {
            b'%' => (hex()?, tail.get(2..)?),
            b'+' => (b' ', tail),
            plain => (*plain, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// User and password of `Basic`, as bytes.
fn basic(header: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    let bytes = scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(encoded.trim()).ok())??;
    Some(Zeroizing::new(bytes))
}

fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn key(cache: &Cache, token: &str) -> [u8; 32] {
    cache.mac(&[b"bearer", token.as_bytes()])
}
