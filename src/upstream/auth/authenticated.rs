//! Sends a request upstream in a name: the caller's, nobody's, or that of credentials that the proxy holds.
//!
//! A 401 is answered once, with a token or a password, as the registry's challenge says and as far as the
//! credential may go there; a second one is the registry's word. A 429 moves the load to the next credential,
//! else it is waited out for a moment. The caller's own header goes as it came: its client sees the challenge.
//! Never: a credential to a host that a redirect led to, nor by plain http.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::HeaderValue;
use http::{Method, Response, StatusCode};

use super::ask_as::AskAs;
use super::ask_error::AskError;
use super::challenge::answerable;
use super::sending::{CHALLENGE_TIME, Sending, send};
use crate::oci::{Authority, Bearer, Challenge};
use crate::upstream::{
    Credential, Endpoint, FinalHop, Picked, Quotas, Realm, TokenAsk, TokenError, Tokens, Upstream, collect,
    retry_after, wait_out,
};
use crate::wire::Body;

/// How long a throttled credential rests where nobody says for how long.
const REST: Duration = Duration::from_secs(60);
/// What clients count on, whatever they are told (distribution-spec, "Token Authentication").
const LEAST_LIFE: Duration = Duration::from_secs(60);
/// So many bytes of registries' challenges are remembered: of some ten thousand, unless they are long.
const CHALLENGES: u64 = 4 << 20;
const CHALLENGE_LIFE: Duration = Duration::from_secs(3600);

/// Sends requests in names. Cheap to clone; clones share tokens and limits.
#[derive(Clone)]
pub struct Authenticated {
    tokens: Tokens,
    quotas: Quotas,
    /// What an endpoint asked for last, so that the next request brings it at once. Behind an `Arc`, since every
    /// request clones it.
    challenges: Arc<moka::sync::Cache<(Endpoint, bool), Challenge>>,
}

/// What a request carries.
enum Key {
    AsIs(Option<HeaderValue>),
    Anonymous,
    Held(Picked),
}

impl Authenticated {
    /// Nothing known yet.
    #[must_use]
    pub fn new(tokens: Tokens) -> Self {
        let weigh = |_: &(Endpoint, bool), challenge: &Challenge| {
            u32::try_from(challenge.to_string().len()).unwrap_or(u32::MAX)
        };
        let challenges = moka::sync::Cache::builder().weigher(weigh).max_capacity(CHALLENGES);
        let challenges = challenges.time_to_live(CHALLENGE_LIFE).build();
        Self { tokens, quotas: Quotas::default(), challenges: Arc::new(challenges) }
    }

    /// What registries say is left of their pull limits.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// The same, with tokens asked for over this way.
    #[must_use]
    pub fn over(&self, upstream: &Upstream) -> Self {
        Self { tokens: self.tokens.over(upstream), ..self.clone() }
    }

    /// The same tokens and limits under another configuration, where endpoints may ask for something else.
    #[must_use]
    pub fn after(self, before: &Self, upstream: &Upstream) -> Self {
        Self { tokens: before.tokens.over(upstream), quotas: before.quotas.clone(), ..self }
    }

    /// The answer, whatever its status. Redirects are followed. Cancel-safe.
    pub(crate) async fn ask(
        &self,
        upstream: &Upstream,
        who: &AskAs,
        sending: &Sending<'_>,
    ) -> Result<Response<Body>, AskError> {
        let mut key = self.key(who, sending).await?;
        let mut keys_left = if let AskAs::Held { keyring, .. } = who { keyring.len() } else { 1 };
        let mut may_wait = true;
        loop {
            let response = match self.ask_as(upstream, who, &key, sending).await {
                Err(AskError::Token(error)) if error.is_throttle() => {
                    self.tell_of_throttle(&key, sending, error.asked().map(Realm::authority), error.retry_after());
                    keys_left = keys_left.saturating_sub(1);
                    match self.next_key(who, &key, sending, error.retry_after(), keys_left).await {
                        Some(other) => key = other,
                        None => return Err(error.into()),
                    }
                    continue;
                }
                answered => answered?,
            };
            if is_foreign(&response, sending.endpoint) {
                return Ok(response);
            }
            self.quotas.note(sending.registry, response.headers());
            if response.status() != StatusCode::TOO_MANY_REQUESTS {
                return Ok(response);
            }
            self.quotas.note_throttled(sending.registry);
            keys_left = keys_left.saturating_sub(1);
            let rest = retry_after(response.headers(), SystemTime::now());
            self.tell_of_throttle(&key, sending, Some(sending.endpoint.authority()), rest);
            if let Some(other) = self.next_key(who, &key, sending, rest, keys_left).await {
                key = other;
                continue;
            }
            match wait_out(response.headers(), SystemTime::now()).filter(|_| may_wait) {
                Some(wait) => {
                    may_wait = false;
                    drop(response); // its connection and its place are somebody else's meanwhile
                    tokio::time::sleep(wait).await;
                }
                None => return Ok(response),
            }
        }
    }

    /// Logs that a registry, or its token service, throttles: once for each account until that is over.
    fn tell_of_throttle(&self, key: &Key, sending: &Sending<'_>, by: Option<&Authority>, rest: Option<Duration>) {
        let account = match key {
            Key::AsIs(None) | Key::Anonymous => "nobody (this proxy's address)".to_owned(),
            Key::AsIs(Some(_)) => "the client's own".to_owned(),
            Key::Held(picked) => picked.credential.user().unwrap_or("a token of the proxy's own").to_owned(),
        };
        if !self.quotas.begins_throttle(sending.registry, &account, rest) {
            return;
        }
        let quota = self.quotas.quota(sending.registry);
        tracing::warn!(
            registry = &**sending.registry,
            host = by.map(|host| host.short(443).to_string()),
            account,
            counted_for = quota.as_ref().and_then(|quota| quota.source.as_deref()),
            pulls_left = quota.as_ref().map(|quota| quota.remaining),
            pulls_limit = quota.as_ref().map(|quota| quota.limit),
            window_seconds = quota.as_ref().map(|quota| quota.window.as_secs()),
            retry_after_seconds = rest.map(|rest| rest.as_secs()),
            "the registry throttles requests (429); cached content is served"
        );
    }

    /// A token that the registry's own service gives for a credential of a caller's, and what it has left to live:
    /// at least [`LEAST_LIFE`] where that service gives such.
    pub(crate) async fn token_for(
        &self,
        realms: &[Realm],
        endpoint: &Endpoint,
        challenge: &Bearer,
        scopes: &[String],
        credential: &Credential,
    ) -> Result<(HeaderValue, Duration), AskError> {
        let ask = TokenAsk { challenge, scopes, credential: Some(credential), home: endpoint, realms };
        Ok(self.tokens.lasting(&ask, LEAST_LIFE).await?)
    }

    /// A throttled credential rests; another one, if one of those left is there.
    async fn next_key(
        &self,
        who: &AskAs,
        throttled: &Key,
        sending: &Sending<'_>,
        rest: Option<Duration>,
        keys_left: usize,
    ) -> Option<Key> {
        let (AskAs::Held { keyring, .. }, Key::Held(picked)) = (who, throttled) else { return None };
        keyring.throttled(picked, rest.unwrap_or(REST));
        if keys_left == 0 {
            return None;
        }
        let other = self.key(who, sending).await.ok()?;
        (!matches!(&other, Key::Held(other) if other == picked)).then_some(other)
    }

    async fn key(&self, who: &AskAs, sending: &Sending<'_>) -> Result<Key, AskError> {
        match who {
            AskAs::Caller(header) => Ok(Key::AsIs(header.clone())),
            AskAs::Nobody => Ok(Key::Anonymous),
            // The configuration's check says so first.
            AskAs::Held { .. } if !sending.endpoint.is_secure() => Err(AskError::NoCredential),
            AskAs::Held { keyring, listed } => {
                let picked = keyring.pick(sending.endpoint.authority(), sending.repository).await?;
                picked.filter(|picked| picked.listed || !listed).map(Key::Held).ok_or(AskError::NoCredential)
            }
        }
    }

    async fn ask_as(
        &self,
        upstream: &Upstream,
        who: &AskAs,
        key: &Key,
        sending: &Sending<'_>,
    ) -> Result<Response<Body>, AskError> {
        let credential = match key {
            Key::AsIs(header) => return send(&self.tokens, upstream, sending, header.as_ref()).await,
            Key::Anonymous => None,
            Key::Held(picked) => Some(&picked.credential),
        };
        let known = (sending.endpoint.clone(), credential.is_some());
        let remembered = self.challenges.get(&known);
        let first = match &remembered {
            None => None,
            Some(challenge) => match self.header(challenge, credential, sending).await {
                Ok(header) => header,
                // Nobody is given a token: the registry says so itself, with a challenge for the client.
                Err(error) if credential.is_none() && error.is_denial() => {
                    return send(&self.tokens, upstream, sending, None).await;
                }
                Err(error) => {
                    self.challenges.invalidate(&known); // its realm may have moved
                    if error.is_denial() {
                        self.refused(who, key, sending);
                    }
                    return Err(error.into());
                }
            },
        };
        let response = send(&self.tokens, upstream, sending, first.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || is_foreign(&response, sending.endpoint) {
            return Ok(response);
        }
        self.forget(remembered.as_ref(), credential, sending, first.as_ref());
        let Some(challenge) = answerable(response.headers(), credential) else { return Ok(response) };
        let second = match self.header(&challenge, credential, sending).await {
            Err(error) if credential.is_none() && error.is_denial() => return Ok(response),
            Err(error) => {
                if error.is_denial() {
                    self.refused(who, key, sending);
                }
                return Err(error.into());
            }
            Ok(header) => header,
        };
        self.challenges.insert(known, challenge.clone());
        // HEAD may be refused to everybody: only GET tells that a credential is refused.
        let decides = *sending.method != Method::HEAD;
        if second.is_none() || second == first {
            if decides {
                self.refused(who, key, sending);
            }
            return Ok(response);
        }
        let _ = collect(response.into_body(), sending.endpoint.authority(), 64 << 10, CHALLENGE_TIME).await; // so that its connection can be used again
        let response = send(&self.tokens, upstream, sending, second.as_ref()).await?;
        if decides && response.status() == StatusCode::UNAUTHORIZED && !is_foreign(&response, sending.endpoint) {
            self.forget(Some(&challenge), credential, sending, second.as_ref());
            self.refused(who, key, sending);
        }
        Ok(response)
    }

    /// What answers a challenge: a token, kept or new, or user and password.
    async fn header(
        &self,
        challenge: &Challenge,
        credential: Option<&Credential>,
        sending: &Sending<'_>,
    ) -> Result<Option<HeaderValue>, TokenError> {
        match challenge {
            Challenge::Bearer(bearer) => {
                let scopes = scopes(bearer, sending);
                self.tokens.bearer(&token_ask(bearer, &scopes, credential, sending)).await.map(Some)
            }
            Challenge::Basic { .. } => Ok(credential.and_then(Credential::basic)),
            Challenge::Other(_) => Ok(None),
        }
    }

    /// The registry does not take this token any more.
    fn forget(
        &self,
        challenge: Option<&Challenge>,
        credential: Option<&Credential>,
        sending: &Sending<'_>,
        header: Option<&HeaderValue>,
    ) {
        if let (Some(Challenge::Bearer(bearer)), Some(header)) = (challenge, header) {
            let scopes = scopes(bearer, sending);
            self.tokens.forget(&token_ask(bearer, &scopes, credential, sending), header);
        }
    }

    fn refused(&self, who: &AskAs, key: &Key, sending: &Sending<'_>) {
        if let (AskAs::Held { keyring, .. }, Key::Held(picked)) = (who, key) {
            tracing::warn!(
                endpoint = sending.endpoint.name(),
                user = picked.credential.user(),
                "the registry, or its token service, refuses the credentials that the proxy holds for it"
            );
            keyring.refused(picked);
        }
    }
}

/// Whether the answer is that of a host to which the registry redirected.
pub(crate) fn is_foreign<B>(response: &Response<B>, endpoint: &Endpoint) -> bool {
    response.extensions().get::<FinalHop>().is_some_and(|hop| hop.authority != *endpoint.authority())
}

/// To pull from this repository, whatever else the challenge asks for; a service that knows no repositories
/// (`scope="aws"`) is asked for what it says.
fn scopes(bearer: &Bearer, sending: &Sending<'_>) -> Vec<String> {
    let is_of_repositories = bearer.scopes.is_empty() || bearer.scopes.iter().any(|one| one.starts_with("repository:"));
    if is_of_repositories {
        return vec![format!("repository:{}:pull", sending.endpoint.name_of(sending.repository))];
    }
    bearer.scopes.clone()
}

fn token_ask<'a>(
    challenge: &'a Bearer,
    scopes: &'a [String],
    credential: Option<&'a Credential>,
    sending: &'a Sending<'_>,
) -> TokenAsk<'a> {
    let (home, realms) = (sending.endpoint, sending.realms);
    TokenAsk { challenge, scopes, credential, home, realms }
}
