//! Stands in for a registry's token service while that is away, and hands out local tokens.
//!
//! Such a token is a claim, not a right: what it opens, the cache's grants decide, and what is public.
//! At a mirror it is the one token service that clients meet. A name that stands for a registry alone has that verify what
//! they bring; every other name gives all of them nobody's token, and their credentials go nowhere.

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::challenge::has_failed;
use super::token_relay::Heard;
use super::{guesses, login, token_relay};
use crate::cache::Principal;
use crate::host::within;
use crate::oci::{Code, Query};
use crate::proxy::context::Context;
use crate::proxy::forward;
use crate::proxy::registry::registry::Whose;
use crate::proxy::respond::{self, Failure};
use crate::proxy::served::{Served, ServedAnswer};
use crate::proxy::tokens::bearers::{self, TokenBinding};
use crate::proxy::tokens::local::{Holder, LOCAL_TOKEN_LIFE, LocalTokens, NO_REGISTRY};
use crate::proxy::tokens::request::TokenRequest;
use crate::telemetry::Kind;
use crate::upstream::Endpoint;
use crate::wire::{Body, Received, collect};

/// A form with a token in it is shorter.
const FORM_LIMIT: usize = 64 << 10;
const LATER: u32 = 30;
/// One of these is in every request for a token by GET.
const TELLING: [&str; 3] = ["service", "scope", "account"];

/// Answers a request to our own token service.
pub(crate) async fn answer(context: &Context<'_>, request: Request<Received>) -> Served {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        let failure = respond::no_method("tokens are issued to GET and POST only");
        return Served::bypass(failure.with(ALLOW, HeaderValue::from_static("GET, POST")));
    }
    let read = read(request).await.map(|(parts, form, token_request)| (parts, form, own_names(context, token_request)));
    if !context.takes_credentials() {
        // Docker sends what it has for Docker Hub to its mirrors as well.
        return match read {
            Ok(_) => Served::bypass(issued(context, NO_REGISTRY, Holder::Nobody)),
            Err(failure) => Served::failure(failure),
        };
    }
    context.outage.settled().await;
    match read {
        Ok((_, _, token_request)) if is_verified(context) && token_request.credential().is_some() => {
            let guess = match guesses::admit(context, &token_request).await {
                Ok(guess) => guess,
                Err(busy) => return Served::failure(busy),
            };
            let deciding = context.registry.deciding_endpoints(context.authority);
            let about = context.upstream.asked_of(&deciding, None);
            let verified = login::token(context, &token_request);
            let answered = tokio::select! {
                answered = within(context.registry.tags().deadline(), &about, verified) => answered,
                () = context.outage.opened() => Some(only_pulls().into()),
            };
            match answered {
                Some(answer) if !has_failed(answer.status()) => {
                    guesses::judged(guess, answer.status());
                    return Served::bypass(answer);
                }
                Some(_) | None => {}
            }
            if let Some(guess) = guess {
                guess.was_not_judged();
            }
            stand_in(context, &token_request, hand_out(context, &token_request, true)).await
        }
        Ok((_, _, token_request)) if context.outage.was_open_within(LOCAL_TOKEN_LIFE) => {
            stand_in(context, &token_request, hand_out(context, &token_request, true)).await
        }
        // No registry's token service is asked in a mirror's place: for whatever it is, this is nobody's token.
        Ok((_, _, token_request)) if context.naming.is_some() && token_request.credential().is_none() => {
            Served::bypass(issued(context, &context.origin, Holder::Nobody))
        }
        Ok((_, _, token_request)) => Served::bypass(
            hand_out(context, &token_request, false).map_or_else(|| only_pulls().into(), ServedAnswer::from),
        ),
        Err(failure) => Served::failure(failure),
    }
}

/// Whether clients' own credentials are verified now: the ping sends them here where the proxy holds some, and at a mirror.
fn is_verified(context: &Context<'_>) -> bool {
    let is_asked_here = context.naming.is_some() || matches!(context.registry.whose(), Whose::Held(_));
    is_asked_here && !context.outage.is_open()
}

/// A request at a mirror, for the repositories as the registry calls them.
fn own_names(context: &Context<'_>, token_request: TokenRequest) -> TokenRequest {
    if context.naming.is_none() {
        return token_request;
    }
    token_request.named(|written| context.own_name(written))
}

/// Whether a request to a token service's host is for a token and not for a page: by the path that the registry
/// named, or, as long as it has named none, by its form.
pub(crate) fn is_for_token(context: &Context<'_>, endpoint: &Endpoint, request: &Request<Received>) -> bool {
    let (uri, query) = (request.uri(), request.uri().query().unwrap_or_default());
    let names =
        |query: &str| Query::parse(query).is_ok_and(|query| query.iter().any(|(name, _)| TELLING.contains(&name)));
    context.outage.is_token_path(endpoint.authority(), uri.path())
        && (*request.method() == Method::POST || names(query))
}

/// Relays a request to the registry's own token service: its answer, or a local one where it gives none in time.
pub(crate) async fn relay(context: &Context<'_>, endpoint: &Endpoint, request: Request<Received>) -> Served {
    let (parts, form, token_request) = match read(request).await {
        Ok(read) => read,
        Err(failure) => return Served::failure(failure),
    };
    let target = parts.uri.path_and_query().cloned();
    let binding = TokenBinding::of(&context.proxy.cache, &parts, &form, &token_request);
    let mut request = Request::from_parts(parts, Body::full(form));
    // So that the answer can be read; it is small.
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let asked = async {
        let answer = forward::pass(context, &context.upstream, endpoint, Kind::Token, request).await;
        token_relay::heard(context.proxy, context.authority, binding, answer).await
    };
    let Some(token) = hand_out(context, &token_request, true).filter(|_| !context.is_shared) else {
        return Served::bypass(asked.await.answer());
    };
    if context.outage.is_open() {
        return stand_in(context, &token_request, Some(token)).await;
    }
    let about = context.upstream.asked_of(std::slice::from_ref(endpoint), target.as_ref());
    let answered = tokio::select! {
        answered = within(context.registry.tags().deadline(), &about, asked) => answered,
        () = context.outage.opened() => return stand_in(context, &token_request, Some(token)).await,
    };
    match answered {
        Some(Heard::Answer(answer)) if !has_failed(answer.status()) => return Served::bypass(answer),
        Some(Heard::Answer(_)) | None => {}
        Some(Heard::NoToken(_)) => {
            if let Some(unlogged) = context.proxy.no_token.due() {
                tracing::warn!(registry = %context.origin, host = %context.authority.short(443), unlogged, "the token service answered without a token; the proxy's own token is used instead");
            }
        }
    }
    stand_in(context, &token_request, Some(token)).await
}

/// Gives out a token that names its holder, though no password was verified for it: what it opens reveals whether the
/// password was right, so this is paced.
async fn stand_in(context: &Context<'_>, token_request: &TokenRequest, token: Option<Response<Body>>) -> Served {
    let Some(token) = token else { return Served::failure(only_pulls()) };
    if !guesses::is_known(context, token_request)
        && let Some(open) = hand_out(context, token_request, false)
        && guesses::is_for_all(context, token_request).await
    {
        return Served::bypass(open);
    }
    match guesses::admit(context, token_request).await {
        Ok(_) => Served::bypass(token),
        Err(busy) => Served::failure(busy),
    }
}

async fn read(request: Request<Received>) -> Result<(http::request::Parts, bytes::Bytes, TokenRequest), Failure> {
    let (parts, body) = request.into_parts();
    let form = tokio::time::timeout(Duration::from_secs(10), collect(Body::wrap(body), FORM_LIMIT)).await;
    let Ok(form) = form else { return Err(refused(StatusCode::REQUEST_TIMEOUT, "the form did not arrive in time")) };
    let Ok(form) = form else { return Err(refused(StatusCode::BAD_REQUEST, "the form is too long or incomplete")) };
    let token_request = TokenRequest::read(&parts.headers, parts.uri.query().unwrap_or_default(), &form);
    token_request
        .map(|token_request| (parts, form, token_request))
        .map_err(|bad| refused(StatusCode::BAD_REQUEST, &bad.to_string()))
}

/// Mints a local token, where the request allows that. Only where we stand in for the registry does it name its
/// holder: no password is verified for it, and what its holder has proven counts for longer then.
fn hand_out(context: &Context<'_>, token_request: &TokenRequest, stands_in: bool) -> Option<Response<Body>> {
    if !token_request.is_to_pull() {
        return None;
    }
    let credential = token_request.credential().filter(|_| stands_in);
    let credential = credential.map(|credential| bearers::mac(&context.proxy.cache, credential));
    let holder = match context.proxy.cache.principal(&context.origin, credential.as_ref().map(|mac| &mac[..])) {
        Principal::Known(known) => Holder::Known(known),
        Principal::Anonymous | Principal::Anybody | Principal::Proxy => Holder::Nobody,
    };
    Some(issued(context, &context.origin, holder))
}

fn issued(context: &Context<'_>, registry: &str, holder: Holder) -> Response<Body> {
    let now = SystemTime::now();
    let token = context.proxy.local.mint(registry, holder, now);
    let mut response = Response::new(Body::full(LocalTokens::answer(&token, now)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn only_pulls() -> Failure {
    let message = "this token service is used while the registry is unreachable: it verifies no login and allows no push; \
                   try again later";
    respond::away(message, LATER)
}

fn refused(status: StatusCode, message: &str) -> Failure {
    Failure::new(status, Code::Unsupported, "http_request_error", message)
}
