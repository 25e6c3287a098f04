//! Requests an image as a client does: `/v2/`, a token if one is required, the manifest.

use anyhow::{Context, bail};
use http::Request;
use http::header::{ACCEPT, AUTHORIZATION, HOST, WWW_AUTHENTICATE};

use super::proxy::{Answer, ProxyClient, ask};
use crate::oci::{Accept, Authority, Bearer, Challenge, Reference, Repository};
use crate::wire::Body;

/// Sends a GET over a new connection through the proxy.
pub(super) async fn get(
    proxy: &ProxyClient,
    to: &Authority,
    path: &str,
    bearer: Option<&str>,
) -> anyhow::Result<Answer> {
    let tunnel = match proxy.tunnel(to).await? {
        Ok(tunnel) => tunnel,
        Err(refused) => bail!("the proxy refuses {to}: {} {}", refused.status, refused.words()),
    };
    let (mut sender, _) = proxy.secure(tunnel, to).await.with_context(|| format!("TLS with {to} failed"))?;
    let mut request = Request::get(path).header(HOST, &*to.short(443)).header(ACCEPT, Accept::EVERYTHING.to_string());
    if let Some(bearer) = bearer {
        request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
    }
    ask(&mut sender, request.body(Body::empty())?).await
}

/// The Bearer challenge of an answer, if it has one.
pub(super) fn challenge(answer: &Answer) -> Option<Bearer> {
    let headers = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    Challenge::bearer(&Challenge::parse(headers)).cloned()
}

/// Requests an anonymous token that may read `repository`.
pub(super) async fn token(proxy: &ProxyClient, challenge: &Bearer, repository: &Repository) -> anyhow::Result<String> {
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
    let answer = get(proxy, &to, &path, None).await.with_context(|| format!("cannot query the token service {to}"))?;
    if !answer.status.is_success() {
        bail!("the token service {to} answered {}: {}", answer.status, answer.words());
    }
    let text: serde_json::Value =
        serde_json::from_slice(&answer.body).context("the token service did not return JSON")?;
    let token = text.get("token").or_else(|| text.get("access_token")).and_then(serde_json::Value::as_str);
    Ok(token.context("the token service did not return a token")?.to_owned())
}

/// Requests the manifest, with the token if there is one.
pub(super) async fn manifest(
    proxy: &ProxyClient,
    to: &Authority,
    repository: &Repository,
    reference: &Reference,
    token: Option<&str>,
) -> anyhow::Result<Answer> {
    get(proxy, to, &format!("/v2/{repository}/manifests/{reference}"), token).await
}
