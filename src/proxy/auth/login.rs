//! Has the registry verify a client's own credentials before they count, where the proxy holds some, and at a mirror.
//!
//! Clients are sent to our token service by the ping, whatever they have. Whoever brings credentials there
//! gets a token that the registry's own service gave for them; a registry that takes passwords alone is asked
//! with them, and our token stands for the password until it ends, in memory only.

use std::borrow::Cow;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use zeroize::Zeroizing;

use super::own_word;
use crate::cache::Principal;
use crate::host::{LogThrottle, Secret};
use crate::oci::{Authorization, Challenge, Code};
use crate::proxy::asked::AskedUpstream;
use crate::proxy::context::Context;
use crate::proxy::respond::Failure;
use crate::proxy::served::ServedAnswer;
use crate::proxy::tokens::bearers::{self, TokenBinding};
use crate::proxy::tokens::local::{Holder, LOCAL_TOKEN_LIFE, LocalTokens};
use crate::proxy::tokens::request::{TokenRequest, renamed};
use crate::proxy::{answer, respond};
use crate::telemetry::Kind;
use crate::upstream;
use crate::upstream::{AskError, is_foreign};
use crate::upstream::{Credential, Endpoint, Realm, TokenError};
use crate::wire::Body;

/// Answers a request to our token service with credentials.
pub(crate) async fn token(context: &Context<'_>, token_request: &TokenRequest) -> ServedAnswer {
    verify(context, token_request).await.unwrap_or_else(|ask_error| match &ask_error {
        AskError::Token(TokenError::Untrusted { .. }) => untrusted(context, &ask_error).into(),
        _ => ServedAnswer::of_fault(&answer::fault_of_ask_error(ask_error), Kind::Token),
    })
}

/// 403: the password stays here. That is for the operator to mend, and no outage.
fn untrusted(context: &Context<'_>, ask_error: &AskError) -> Failure {
    static SAID: LogThrottle = LogThrottle::new(); // each client meets it
    if SAID.is_due() {
        tracing::warn!(registry = %context.registry.name(), error = respond::chain(ask_error), "clients' credentials cannot be verified; similar failures are not logged for a minute");
    }
    Failure::new(StatusCode::FORBIDDEN, Code::Denied, "proxy_configuration_error", respond::chain(ask_error))
}

async fn verify(context: &Context<'_>, token_request: &TokenRequest) -> Result<ServedAnswer, AskError> {
    let deciding = context.registry.deciding_endpoints(context.authority);
    let own = context.upstream.order(&deciding).into_iter().find(|endpoint| endpoint.authoritative());
    let (Some(endpoint), Some(credential)) = (own, token_request.credential().and_then(credential_of)) else {
        return Ok(respond::unauthorized("these credentials cannot be verified here").into());
    };
    // Anybody on the way could say yes to everything, or where passwords are to go.
    if !endpoint.is_secure() {
        return Ok(respond::unauthorized("credentials are not verified over plain HTTP").into());
    }
    let response = ask_ping(context, endpoint, None).await?;
    let challenges = upstream::challenges(response.headers());
    if let Some(bearer) = Challenge::bearer(&challenges).filter(|_| !is_foreign(&response, endpoint)) {
        let scopes = match endpoint.prefix() {
            "" => token_request.scopes(),
            prefix => &renamed(token_request.scopes(), |name| format!("{prefix}/{name}")),
        };
        let realms = realms(context, &bearer.realm);
        let (header, left) = context.authenticated.token_for(&realms, endpoint, bearer, scopes, &credential).await?;
        let issued = Authorization::parse(header.as_bytes());
        let token = issued.bearer().unwrap_or_default();
        // Never more than it has left: its client would come with it when it has ended.
        let life = left.as_secs().max(1);
        let body =
            Zeroizing::new(serde_json::json!({"token": token, "access_token": token, "expires_in": life}).to_string());
        let cache = &context.proxy.cache;
        let binding = TokenBinding::of_login(cache, token_request);
        context.proxy.bearers.bind(cache, context.authority, &binding, body.as_bytes());
        return Ok(json(&body).into());
    }
    let Some(basic) = credential.basic() else {
        return Ok(respond::unauthorized("the registry does not accept identity tokens").into());
    };
    let (response, is_own_word) = own_word::judged(ask_ping(context, endpoint, Some(basic.clone())).await?).await;
    if !is_own_word || is_foreign(&response, endpoint) {
        return Ok(respond::unauthorized("the registry does not know this user and password").into());
    }
    let (cache, now) = (&context.proxy.cache, SystemTime::now());
    let mac = token_request.credential().map(|credential| bearers::mac(cache, credential));
    let holder = match cache.principal(&context.origin, mac.as_ref().map(|mac| &mac[..])) {
        Principal::Known(known) => Holder::Known(known),
        Principal::Anonymous | Principal::Anybody | Principal::Proxy => Holder::Nobody,
    };
    let token = context.proxy.local.mint(&context.origin, holder, now);
    context.proxy.bearers.stand_in(cache, &token, basic, LOCAL_TOKEN_LIFE);
    Ok(json(&LocalTokens::answer(&token, now)).into())
}

/// Where a client's own credentials may be sent, besides the registry's host: where the registry's token service is, as the
/// configuration has it.
fn realms<'a>(context: &Context<'a>, named: &str) -> Cow<'a, [Realm]> {
    let listed = context.registry.realms();
    let its_own =
        named.parse().ok().filter(|realm: &Realm| context.registry.is_served_by(realm.authority(), context.authority));
    its_own.map_or(Cow::Borrowed(listed), |realm| Cow::Owned([listed, &[realm]].concat()))
}

async fn ask_ping(
    context: &Context<'_>,
    endpoint: &Endpoint,
    authorization: Option<HeaderValue>,
) -> Result<Response<Body>, AskError> {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::USER_AGENT, answer::USER_AGENT_VALUE);
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    let mut request = Request::builder().uri("/v2/").body(())?;
    *request.headers_mut() = headers;
    let question = AskedUpstream::begin(Kind::Ping, endpoint.authority());
    let answered = context.upstream.fetch(endpoint, request).await;
    context.asked().note(&question, answered.as_ref());
    Ok(answered?)
}

/// The credential that is sent to a token service.
fn credential_of(authorization: &Authorization) -> Option<Credential> {
    if let Some(token) = authorization.identity() {
        return Some(Credential::Identity { token: Secret::new(token.to_owned()) });
    }
    let (user, password) = authorization.login()?;
    Some(Credential::new(user.to_owned(), Secret::new(password.to_owned())))
}

fn json(body: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(body.to_owned()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
