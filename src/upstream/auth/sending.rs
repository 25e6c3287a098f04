//! Sends one request to a registry, and on to another one to which it leads and which wants a token of its own.
//!
//! Never: a credential to a host that a redirect led to. The token that such a host gives to anybody is nobody's.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::ask_error::AskError;
use super::challenge::answerable;
use crate::oci::{Challenge, Repository};
use crate::upstream::{Downloads, Endpoint, Error, LedTo, Realm, TokenAsk, Tokens, Upstream, collect};
use crate::wire::Body;

/// A challenge's few words are read away within so long, or its connection is given up.
pub(super) const CHALLENGE_TIME: Duration = Duration::from_secs(1);

/// What is to be asked, and of whom.
pub(crate) struct Sending<'a> {
    /// The registry's configured name.
    pub(crate) registry: &'a Arc<str>,
    /// Where its tokens may be asked for, besides its own hosts.
    pub(crate) realms: &'a [Realm],
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) repository: &'a Repository,
    pub(crate) method: &'a Method,
    pub(crate) target: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) downloads: Downloads,
    /// How long the head of each answer is waited for: of a HEAD, which some servers never answer.
    pub(crate) patience: Option<Duration>,
}

impl Sending<'_> {
    fn request(&self) -> Result<Request<()>, AskError> {
        let mut request = Request::builder().method(self.method).uri(self.target).body(())?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// The answer to a request, from any host on the way.
pub(super) async fn send(
    tokens: &Tokens,
    upstream: &Upstream,
    sending: &Sending<'_>,
    authorization: Option<&HeaderValue>,
) -> Result<Response<Body>, AskError> {
    let mut request = sending.request()?;
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization.clone());
    }
    let response = in_time(sending, upstream.download(sending.endpoint, request, sending.downloads)).await?;
    match response.extensions().get::<LedTo>().cloned() {
        Some(led) => Box::pin(send_for_nobody(tokens, upstream, sending, &led, response)).await,
        None => Ok(response),
    }
}

/// Asks another registry, to which the first one has led and which wants a token, with the token that it gives to anybody:
/// one for the first is none of its business. Where that does not do, its challenge is the answer.
async fn send_for_nobody(
    tokens: &Tokens,
    upstream: &Upstream,
    sending: &Sending<'_>,
    led: &LedTo,
    refused: Response<Body>,
) -> Result<Response<Body>, AskError> {
    let Some(Challenge::Bearer(bearer)) = answerable(refused.headers(), None) else { return Ok(refused) };
    let (parts, body) = refused.into_parts();
    let _ = collect(body, led.authority(), 64 << 10, CHALLENGE_TIME).await;
    let home = Endpoint::of_host(led.authority());
    let ask = TokenAsk { challenge: &bearer, scopes: &bearer.scopes, credential: None, home: &home, realms: &[] };
    let tokens = tokens.over(&upstream.of_nobody());
    for _ in 0..2 {
        let Ok(token) = tokens.bearer(&ask).await else { break };
        let request = sending.request()?;
        let asked = upstream.download_at(sending.endpoint, led, token.clone(), request, sending.downloads);
        let response = in_time(sending, asked).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED => tokens.forget(&ask, &token), // a kept one may have ended
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => break,
            _ => return Ok(response),
        }
    }
    Ok(Response::from_parts(parts, Body::empty()))
}

/// The answer to what is asked, its head in time.
async fn in_time(
    sending: &Sending<'_>,
    asking: impl Future<Output = Result<Response<Body>, Error>>,
) -> Result<Response<Body>, AskError> {
    let Some(after) = sending.patience else { return Ok(asking.await?) };
    let late = |_| Error::FirstByteTimeout { to: sending.endpoint.authority().clone(), after };
    Ok(tokio::time::timeout(after, asking).await.map_err(late)??)
}
