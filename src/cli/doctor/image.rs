//! Requests an image as a client does: `/v2/`, a token if one is required, the manifest, the blobs.

use anyhow::{Context, bail};
use http::header::{ACCEPT, AUTHORIZATION, HOST, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};

use super::proxy::ProxyClient;
use super::report::Problem;
use super::talk::{Answer, ask};
use super::trust::Distrust;
use super::verdict;
use crate::oci::{Accept, Authority, Bearer, Challenge, Repository};
use crate::wire::Body;

/// A registry sends a client on to a CDN, and that to another one at most.
const REDIRECTS: usize = 5;

/// What is asked, and with which token.
#[derive(Clone)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) bearer: Option<&'a str>,
    /// Only the first byte.
    pub(super) is_first_byte: bool,
}

impl<'a> Question<'a> {
    pub(super) fn get(path: impl Into<String>, bearer: Option<&'a str>) -> Self {
        Self { method: Method::GET, path: path.into(), bearer, is_first_byte: false }
    }
}

/// Asks over a new connection through the proxy.
pub(super) async fn get(proxy: &ProxyClient, to: &Authority, question: Question<'_>) -> anyhow::Result<Answer> {
    let tunnel = match proxy.tunnel(to).await? {
        Ok(tunnel) => tunnel,
        Err(refused) => bail!("the proxy refuses {to}: {} {}", refused.status, refused.words()),
    };
    let secured = proxy.secure(tunnel, to).await;
    let mut secured =
        secured.map_err(|Distrust { cause, .. }| cause).with_context(|| format!("TLS with {to} failed"))?;
    let mut request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(HOST, &*to.short(443))
        .header(ACCEPT, Accept::EVERYTHING.to_string());
    if let Some(bearer) = question.bearer {
        request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
    }
    if question.is_first_byte {
        request = request.header(RANGE, "bytes=0-0");
    }
    ask(&mut secured.sender, request.body(Body::empty())?).await
}

/// Asks, and follows redirects as clients do: the token goes to no other host. Also answers who gave the answer.
pub(super) async fn follow(
    proxy: &ProxyClient,
    to: &Authority,
    mut question: Question<'_>,
) -> anyhow::Result<(Answer, Authority)> {
    let mut host = to.clone();
    for _ in 0..=REDIRECTS {
        let asked = get(proxy, &host, question.clone()).await;
        let answer = asked.with_context(|| {
            if host == *to {
                format!("cannot ask {host}")
            } else {
                format!("{to} leads to {host} for it, which cannot be asked")
            }
        })?;
        let location = answer.header(LOCATION.as_str()).filter(|_| answer.status.is_redirection());
        let Some(location) = location else { return Ok((answer, host)) };
        let uri: http::Uri = location.parse().context("the address of a redirect is not a URL")?;
        if let Some(authority) = uri.authority() {
            if uri.scheme_str() != Some("https") {
                bail!("{host} leads to {authority} without TLS");
            }
            host = Authority::parse(authority.as_str(), 443)?;
        }
        question.path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        question.bearer = question.bearer.filter(|_| host == *to);
    }
    bail!("{to} redirects more than {REDIRECTS} times")
}

/// The Bearer challenge of an answer, if it has one.
pub(super) fn challenge(answer: &Answer) -> Option<Bearer> {
    let headers = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    Challenge::bearer(&Challenge::parse(headers)).cloned()
}

/// Requests an anonymous token that may read `repository`. A refusal says whose it is, and for how long.
pub(super) async fn token(
    proxy: &ProxyClient,
    challenge: &Bearer,
    repository: &Repository,
) -> anyhow::Result<Result<String, Problem>> {
    let realm: http::Uri = challenge.realm.parse().context("the realm of the challenge is not a URL")?;
    let authority = realm.authority().context("the realm of the challenge has no host")?;
    if realm.scheme_str() != Some("https") {
        bail!("the realm of the challenge does not use https");
    }
    let to = Authority::parse(authority.as_str(), 443)?;
    let sign = if realm.query().is_some() { '&' } else { '?' };
    let path = realm.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let service = challenge.service.as_deref().unwrap_or_default().replace(' ', "%20");
    let path =
        format!("{path}{sign}service={service}&scope=repository%3A{}%3Apull", repository.as_str().replace('/', "%2F"));
    let answer = get(proxy, &to, Question::get(path, None)).await;
    let answer = answer.with_context(|| format!("cannot query the token service {to}"))?;
    if answer.status != StatusCode::OK {
        let Problem { words, fix } = verdict::refused(&answer, &to);
        return Ok(Err(Problem { words: format!("the token service {to} answered {words}"), fix }));
    }
    token_in(&answer).map(Ok)
}

/// The token in a token service's answer.
pub(super) fn token_in(answer: &Answer) -> anyhow::Result<String> {
    let text: serde_json::Value =
        serde_json::from_slice(&answer.body).context("the token service did not return JSON")?;
    let token = text.get("token").or_else(|| text.get("access_token")).and_then(serde_json::Value::as_str);
    Ok(token.context("the token service did not return a token")?.to_owned())
}
