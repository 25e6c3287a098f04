//! Remembers which credential obtained a bearer: token requests pass through us, so their answers are known.
//!
//! A thousand nodes with one pull secret have a thousand bearers, and are one principal. What is kept is MACs
//! under a key that dies with the process; never a token, never a password.
//! Threat: a bearer that stands for more or less than is thought. Defence: it is bound only where the request
//! said nothing but a credential we understand, counts only at registries whose own token service issued it,
//! and only in the repositories that it was asked for; any other bearer is a principal of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, MAX_FORWARDS, PRAGMA, RANGE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT, VIA,
};

use super::request::TokenRequest;
use crate::cache::{Cache, GrantsConfig, Lives};
use crate::oci::{Authority, Authorization, Query, Repository};
use crate::proxy::registry::registry::Registry;
use crate::upstream::TokenDocument;

const MOST: Duration = Duration::from_secs(12 * 3600);
/// At most so many stand-ins are kept.
const STAND_INS: u64 = 10_000;
/// At most so many bearers are remembered.
const CAPACITY: u64 = 200_000;
/// Headers that do not identify the client.
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
/// Further headers that a registry needs to know what is asked, or sent.
const OF_CONTENT: [HeaderName; 19] = [
    CONTENT_ENCODING,
    CONTENT_RANGE,
    EXPECT,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    MAX_FORWARDS,
    RANGE,
    TRAILER,
    UPGRADE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("docker-content-digest"),
    HeaderName::from_static("docker-upload-uuid"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("oci-chunk-max-length"),
    HeaderName::from_static("oci-chunk-min-length"),
    HeaderName::from_static("oci-tag"),
];
const PLAIN_PARAMETERS: [&str; 6] = ["service", "scope", "account", "client_id", "offline_token", "access_type"];

/// Whose a request is, as far as its credentials tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// It has none.
    Nobody,
    /// It has a token that anybody is given. `lapsed`: its time is over.
    Anybody { lapsed: bool },
    /// A credential, by its MAC, or a token that it obtained.
    Credential { mac: [u8; 32], lapsed: bool },
    /// Something else: it stands for itself.
    Itself,
}

/// What a token is bound to: the credential that obtained it, and its repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenBinding {
    /// The MAC of the credential; `None` for nobody's.
    credential: Option<[u8; 32]>,
    /// `None`: all of them, as services that know none want it (`scope=aws`).
    repositories: Option<Arc<[String]>>,
}

/// The bearers that token services issued through us.
#[derive(Clone)]
pub(crate) struct Bearers {
    bound: moka::sync::Cache<[u8; 32], Arc<Bound>>,
    /// Local tokens that stand for a password, which the registry takes instead.
    stand_ins: moka::sync::Cache<[u8; 32], (HeaderValue, Instant)>,
}

struct Bound {
    binding: TokenBinding,
    /// The token service that issued it.
    issuer: Authority,
    since: Instant,
    life: Duration,
}

impl Bearers {
    pub(crate) fn new() -> Self {
        let longest = MOST + GrantsConfig::LONGEST.0;
        let weigh = |_: &[u8; 32], bound: &Arc<Bound>| bound.binding.weight();
        let bound = moka::sync::Cache::builder().weigher(weigh).max_capacity(CAPACITY).time_to_live(longest).build();
        let stand_ins = moka::sync::Cache::builder().max_capacity(STAND_INS).time_to_live(MOST).build();
        Self { bound, stand_ins }
    }

    /// Makes the local `token` stand for `header` upstream for `life`.
    pub(crate) fn stand_in(&self, cache: &Cache, token: &str, header: HeaderValue, life: Duration) {
        self.stand_ins.insert(key(cache, token), (header, Instant::now() + life));
    }

    /// The header that `token` stands for.
    pub(crate) fn stood_for(&self, cache: &Cache, token: &str) -> Option<HeaderValue> {
        self.stand_ins.get(&key(cache, token)).filter(|(_, end)| *end > Instant::now()).map(|(header, _)| header)
    }

    /// Notes the tokens of an answer of `issuer`. Answers whether it had any.
    pub(crate) fn bind(&self, cache: &Cache, issuer: &Authority, binding: &TokenBinding, body: &[u8]) -> bool {
        let Some(answer) = TokenDocument::parse(body) else { return false };
        let life = answer.life().min(MOST);
        let bound = Bound { binding: binding.clone(), issuer: issuer.clone(), since: Instant::now(), life };
        let bound = Arc::new(bound);
        answer.tokens().map(|token| self.bound.insert(key(cache, token.expose()), bound.clone())).count() > 0
    }

    /// Whose `authorization` is, at `registry`, asked as `asked` for something in `repository`.
    pub(crate) fn bears(
        &self,
        cache: &Cache,
        registry: &Registry,
        asked: &Authority,
        repository: &Repository,
        authorization: Option<&Authorization>,
    ) -> Presented {
        let Some(authorization) = authorization else { return Presented::Nobody };
        if authorization.pair().is_some() {
            return Presented::Credential { mac: mac(cache, authorization), lapsed: false };
        }
        let bound = authorization.bearer().and_then(|token| self.bound.get(&key(cache, token)));
        let Some(bound) = bound.filter(|bound| registry.is_served_by(&bound.issuer, asked)) else {
            return Presented::Itself;
        };
        let age = bound.since.elapsed();
        if !bound.binding.reaches(repository) || age > bound.life + remembered(registry.lives()) {
            return Presented::Itself;
        }
        let lapsed = age > bound.life;
        bound.binding.credential.map_or(Presented::Anybody { lapsed }, |mac| Presented::Credential { mac, lapsed })
    }
}

/// A token that has expired stands for its credential as long as that may have a grant.
fn remembered(lives: Lives) -> Duration {
    lives.life.max(lives.outage)
}

impl TokenBinding {
    /// What a request for a token says, whose `token_request` was read from it. `form` is a POST's body. `None`
    /// where it says more than we understand.
    pub(crate) fn of(
        cache: &Cache,
        parts: &http::request::Parts,
        form: &[u8],
        token_request: &TokenRequest,
    ) -> Option<Self> {
        if !is_plain(&parts.headers) || parts.headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return None;
        }
        let query = parts.uri.query().unwrap_or_default();
        if !Query::parse(query).ok()?.iter().all(|(name, _)| PLAIN_PARAMETERS.contains(&name)) {
            return None;
        }
        let credential = token_request.credential();
        let is_basic = credential.is_some_and(|credential| credential.pair().is_some());
        let is_understood = match (&parts.method, parts.headers.contains_key(AUTHORIZATION)) {
            (&Method::GET, true) => form.is_empty() && is_basic,
            (&Method::GET, false) => form.is_empty(),
            (&Method::POST, false) => token_request.is_a_grant(),
            _ => false,
        };
        let credential = credential.map(|credential| mac(cache, credential));
        is_understood.then(|| Self { credential, repositories: repositories(token_request.scopes()) })
    }

    /// What a token is bound to that is asked for here, with nothing but what `token_request` says.
    pub(crate) fn of_login(cache: &Cache, token_request: &TokenRequest) -> Self {
        let credential = token_request.credential().map(|credential| mac(cache, credential));
        Self { credential, repositories: repositories(token_request.scopes()) }
    }

    /// One, and one more for each 256 bytes of what it is for: a client writes that.
    fn weight(&self) -> u32 {
        let names = self.repositories.iter().flat_map(|names| names.iter());
        u32::try_from(1 + names.map(|name| name.len() + 64).sum::<usize>() / 256).unwrap_or(u32::MAX)
    }

    fn reaches(&self, repository: &Repository) -> bool {
        let Some(repositories) = &self.repositories else { return true };
        repositories.iter().any(|one| one == repository.as_str())
    }
}

/// Whether nothing but `Authorization` identifies the client.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    headers.keys().all(|name| PLAIN.contains(name) || *name == AUTHORIZATION)
}

/// Leaves only headers that do not identify the client.
///
/// Threat: what a client means for the mirror, or for another registry, in `Authorization`, `Cookie` or a field of a
/// registry's own (`Private-Token`), goes to a registry. So what is not known to be plain is left out, rather than what is
/// known not to be.
pub(crate) fn make_plain(headers: &mut HeaderMap) {
    let is_plain = |name: &HeaderName| PLAIN.contains(name) || OF_CONTENT.contains(name);
    let others: Vec<HeaderName> = headers.keys().filter(|name| !is_plain(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
}

/// The repositories of all scopes, of which there may be none; `None` where scopes are of something else.
fn repositories(scopes: &[String]) -> Option<Arc<[String]>> {
    let names = scopes.iter().filter_map(|scope| scope.strip_prefix("repository:")?.rsplit_once(':'));
    let names: Arc<[String]> = names.map(|(name, _)| name.to_owned()).collect();
    let is_of_something_else = names.is_empty() && !scopes.is_empty();
    (!is_of_something_else).then_some(names)
}

/// The MAC of a credential, from wherever it came.
pub(crate) fn mac(cache: &Cache, credential: &Authorization) -> [u8; 32] {
    cache.mac(&credential.identifying())
}

fn key(cache: &Cache, token: &str) -> [u8; 32] {
    cache.mac(&[b"bearer", token.as_bytes()])
}
