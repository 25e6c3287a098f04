//! Keeps tokens, and asks for new ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::answer::Token;
use super::{Realm, TokenError, form};
use crate::host::{Coalesced, Flights, LogThrottle, MacKey, within};
use crate::oci::Bearer;
use crate::upstream::auth::quota;
use crate::upstream::{Credential, Endpoint, Error, FinalHop, HostConfig, Upstream, collect};
use crate::wire::Body;

/// All tries for one token together: a client waits behind this.
/// It is less than a registry's usual deadline, so that the silence is put down to the token service.
const DEADLINE: Duration = Duration::from_secs(8);
const ANSWER_LIMIT: usize = 256 << 10;
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Tokens are kilobytes each.
const KEPT_BYTES: u64 = 16 << 20;
/// How long a realm that took no POST is asked by GET alone.
const GET_ONLY: Duration = Duration::from_secs(3600);
const GET_ONLY_REALMS: u64 = 1024;
/// A token that was had so lately counts as new.
const MOMENT: Duration = Duration::from_secs(2);

/// What is needed.
#[derive(Clone, Copy, Debug)]
pub struct TokenAsk<'a> {
    /// The challenge that the registry sent.
    pub challenge: &'a Bearer,
    /// What the token is for, such as `repository:library/alpine:pull`; the challenge's own scopes do not count.
    pub scopes: &'a [String],
    /// Whose token; `None` is an anonymous one, which any realm may be asked for that the address rules allow.
    pub credential: Option<&'a Credential>,
    /// The endpoint that the credential is for, and that sent the challenge. A token service on its host is reached as it is.
    pub home: &'a Endpoint,
    /// Realms elsewhere that it may be sent to: the preset's and those listed in `realms`.
    pub realms: &'a [Realm],
}

/// The tokens, and the way to the token services. Cheap to clone; clones share the tokens.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
    upstream: Upstream,
}

struct Inner {
    mac: MacKey,
    kept: moka::sync::Cache<Key, Kept>,
    get_only: moka::sync::Cache<Realm, ()>,
    flights: Flights<Key, Result<Kept, TokenError>>,
    no_token: LogThrottle,
}

/// What makes two needs the same. Holds a MAC of the credential, under a key that dies with the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    realm: Realm,
    service: Option<String>,
    scopes: BTreeSet<String>,
    credential: Option<[u8; 32]>,
    /// How the service is reached where it is on the host of the endpoint that sends us there.
    reach: HostConfig,
}

impl Key {
    fn service_endpoint(&self) -> Endpoint {
        Endpoint::of_host(self.realm.authority()).reached_by(self.reach.clone())
    }
}

#[derive(Clone)]
struct Kept {
    header: HeaderValue,
    until: Instant,
    /// When it ends, and how long it had when it came.
    end: Instant,
    life: Duration,
}

impl Kept {
    fn new(token: Token) -> Self {
        let now = Instant::now();
        Self { header: token.header, until: now + token.keep, end: now + token.left, life: token.left }
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Whether no newer one would do better for somebody who wants it to live so long.
    fn lasts(&self, least: Duration) -> bool {
        self.until > Instant::now() && self.left() >= least.min(self.life.saturating_sub(MOMENT))
    }
}

/// The system has no random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system's random numbers cannot be read")]
pub struct NoTokenKey;

impl Tokens {
    /// No tokens yet. They are asked for over `upstream`, under its address rules.
    ///
    /// # Errors
    /// [`NoTokenKey`].
    pub fn new(upstream: Upstream) -> Result<Self, NoTokenKey> {
        let mac = MacKey::random().ok_or(NoTokenKey)?;
        let weigh = |key: &Key, kept: &Kept| {
            let scopes: usize = key.scopes.iter().map(String::len).sum();
            u32::try_from(512 + scopes + kept.header.len()).unwrap_or(u32::MAX)
        };
        let kept = moka::sync::Cache::builder().weigher(weigh).max_capacity(KEPT_BYTES).build();
        let get_only = moka::sync::Cache::builder().max_capacity(GET_ONLY_REALMS).time_to_live(GET_ONLY).build();
        let (flights, no_token) = (Flights::among(upstream.tasks().clone()), LogThrottle::new());
        Ok(Self { inner: Arc::new(Inner { mac, kept, get_only, flights, no_token }), upstream })
    }

    /// The same tokens, asked for over another way from now on.
    #[must_use]
    pub fn over(&self, upstream: &Upstream) -> Self {
        Self { inner: self.inner.clone(), upstream: upstream.clone() }
    }

    /// The `Authorization` header of a token, marked as sensitive: a kept one, or one request for all who need
    /// it. Cancel-safe.
    ///
    /// # Errors
    /// [`TokenError`]. Nothing was sent where it is `BadRealm` or `Untrusted`.
    pub async fn bearer(&self, ask: &TokenAsk<'_>) -> Result<HeaderValue, TokenError> {
        self.kept(ask, Duration::ZERO).await.map(|kept| kept.header)
    }

    /// The same for somebody else to use: one that lives for `least` from now on, if the service gives any that
    /// do, and what it has left.
    ///
    /// # Errors
    /// As [`Tokens::bearer`].
    pub async fn lasting(&self, ask: &TokenAsk<'_>, least: Duration) -> Result<(HeaderValue, Duration), TokenError> {
        self.kept(ask, least).await.map(|kept| (kept.header.clone(), kept.left()))
    }

    async fn kept(&self, ask: &TokenAsk<'_>, least: Duration) -> Result<Kept, TokenError> {
        let key = self.key(ask)?;
        let known = self.inner.kept.get(&key).filter(|kept| kept.lasts(Duration::ZERO));
        if let Some(kept) = known.as_ref().filter(|kept| kept.lasts(least)) {
            return Ok(kept.clone());
        }
        let (asking, asked, credential) = (self.clone(), key.clone(), ask.credential.cloned());
        let flight = self
            .inner
            .flights
            .run(key, self.upstream.changed(), move || async move { asking.ask(asked, credential).await });
        match (flight.await.map_or(Err(TokenError::Stopping), Coalesced::into_inner), known) {
            // It is still good, if not for long: more than what a service gives that is away or throttles.
            (Err(error), Some(kept)) if !error.is_denial() => Ok(kept),
            (answered, _) => answered,
        }
    }

    /// Forgets the token for this need, if it is still `refused`: the registry answered 401 to it. A newer one
    /// stays.
    pub fn forget(&self, ask: &TokenAsk<'_>, refused: &HeaderValue) {
        let Ok(key) = self.key(ask) else { return };
        if self.inner.kept.get(&key).is_some_and(|kept| kept.header == *refused) {
            self.inner.kept.invalidate(&key);
        }
    }

    fn key(&self, ask: &TokenAsk<'_>) -> Result<Key, TokenError> {
        let realm: Realm = ask.challenge.realm.parse().map_err(|_| TokenError::BadRealm)?;
        if ask.credential.is_some() && !realm.is_trusted(ask.home.authority(), ask.realms) {
            return Err(TokenError::Untrusted { realm });
        }
        let is_at_home = realm.authority() == ask.home.authority();
        Ok(Key {
            reach: if is_at_home { ask.home.reach().clone() } else { HostConfig::default() },
            realm,
            service: ask.challenge.service.clone(),
            scopes: ask.scopes.iter().cloned().collect(),
            credential: ask.credential.map(|credential| self.inner.mac.of(&credential.parts())),
        })
    }
}

impl Tokens {
    async fn ask(&self, key: Key, credential: Option<Credential>) -> Result<Kept, TokenError> {
        let scopes: Vec<String> = key.scopes.iter().cloned().collect();
        let target = form::query(&key.realm, key.service.as_deref(), &scopes, None).parse().ok();
        let endpoints = [key.service_endpoint()];
        let about = self.upstream.asked_of(&endpoints, target.as_ref());
        let token = within(DEADLINE, &about, self.token(&key, credential.as_ref())).await;
        let token = token.ok_or_else(|| TokenError::Slow { realm: key.realm.clone(), after: DEADLINE })?;
        if let (Err(TokenError::NoToken { realm }), Some(unlogged)) = (&token, self.inner.no_token.due()) {
            tracing::warn!(%realm, unlogged, "the token service answered without a token");
        }
        let token = token?;
        let kept = Kept::new(token);
        self.inner.kept.insert(key, kept.clone());
        Ok(kept)
    }

    /// By POST where there is a credential, then by GET where the service takes no POST, as containerd does.
    async fn token(&self, key: &Key, credential: Option<&Credential>) -> Result<Token, TokenError> {
        let scopes: Vec<String> = key.scopes.iter().cloned().collect();
        let service = key.service.as_deref();
        let Some(credential) = credential else { return self.get(key, service, &scopes, None).await };
        if self.inner.get_only.contains_key(&key.realm) && credential.basic().is_some() {
            return self.get(key, service, &scopes, Some(credential)).await;
        }
        match self.post(key, service, &scopes, credential).await {
            Err(TokenError::Refused { status, .. }) if takes_no_post(status) && credential.basic().is_some() => {
                let token = self.get(key, service, &scopes, Some(credential)).await?;
                self.inner.get_only.insert(key.realm.clone(), ());
                Ok(token)
            }
            outcome => outcome,
        }
    }

    async fn get(
        &self,
        key: &Key,
        service: Option<&str>,
        scopes: &[String],
        credential: Option<&Credential>,
    ) -> Result<Token, TokenError> {
        let account = credential.and_then(Credential::user);
        let mut request = Request::new(());
        *request.uri_mut() =
            form::query(&key.realm, service, scopes, account).parse().map_err(|_| TokenError::BadRealm)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(basic) = credential.and_then(Credential::basic) {
            request.headers_mut().insert(AUTHORIZATION, basic);
        }
        let endpoint = key.service_endpoint();
        let failed = |source| TokenError::Upstream { realm: key.realm.clone(), source: Box::new(source) };
        let answer = self.upstream.fetch(&endpoint, request).await.map_err(failed)?;
        let moved = answer.extensions().get::<FinalHop>().is_some_and(|hop| hop.authority != *key.realm.authority());
        if moved && credential.is_some() {
            // Without the credential that host's token would be nobody's, and kept as somebody's.
            return Err(TokenError::Redirected { realm: key.realm.clone() });
        }
        read(&key.realm, answer).await
    }

    async fn post(
        &self,
        key: &Key,
        service: Option<&str>,
        scopes: &[String],
        credential: &Credential,
    ) -> Result<Token, TokenError> {
        let text = form::body(service, scopes, credential);
        let mut request = Request::new(Body::full(text.as_bytes().to_vec()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = form::target(&key.realm).parse().map_err(|_| TokenError::BadRealm)?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let endpoint = key.service_endpoint();
        let failed = |source| TokenError::Upstream { realm: key.realm.clone(), source: Box::new(source) };
        read(&key.realm, self.upstream.send(&endpoint, request).await.map_err(failed)?).await
    }
}

/// What a service that has no POST form answers to one; 401 is what some say to a grant that they do not know.
fn takes_no_post(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 404 | 405)
}

async fn read(realm: &Realm, answer: Response<Body>) -> Result<Token, TokenError> {
    let status = answer.status();
    if status.is_redirection() {
        return Err(TokenError::Redirected { realm: realm.clone() });
    }
    if !status.is_success() {
        let retry_after = quota::retry_after(answer.headers(), SystemTime::now());
        return Err(TokenError::Refused { realm: realm.clone(), status, retry_after });
    }
    let body = collect(answer.into_body(), realm.authority(), ANSWER_LIMIT, ANSWER_TIME).await;
    if let Some(full @ Error::Full { .. }) = body.as_ref().err().and_then(Error::of_body) {
        return Err(TokenError::Upstream { realm: realm.clone(), source: Box::new(full.clone()) });
    }
    let body = body.unwrap_or_default();
    Token::parse(&body, SystemTime::now()).ok_or_else(|| TokenError::NoToken { realm: realm.clone() })
}
