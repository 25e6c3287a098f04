//! Asks a registry which token services it names now.
//!
//! Threat to pulls: a registry names a token service that is gone, for a moment (it moved, or a deployment was bad). Without a
//! token nobody is let through to hear that it names another one since: so the probe asks.

use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::question::{SendProbe, question};
use crate::oci::{Authority, Challenge};
use crate::upstream::{Endpoint, Realm};

/// What the challenges of a registry's ping say of a token service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedNow {
    /// They name it.
    Named,
    /// They name others.
    Others,
    /// There are none, and a question for content may be challenged all the same.
    Unsaid,
}

/// Asks the endpoints that decide, without credentials, whether they name a token service at `host`. `None` if none of them
/// answers. `heard` is told each token service that they name.
pub(crate) async fn named_now(
    upstream: &impl SendProbe,
    homes: &[Endpoint],
    host: &Authority,
    (since, wait): (Instant, Duration),
    heard: impl Fn(&str),
) -> Option<NamedNow> {
    let ask = |home| async move {
        let asked = question(&Method::GET, "/v2/").ok()?;
        let answered = tokio::time::timeout(wait, upstream.send_probe(home, asked, since)).await;
        let response = answered.ok()?.ok().filter(|response| !response.status().is_server_error())?;
        let fields = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges = Challenge::parse(fields);
        let is_challenge = response.status() == StatusCode::UNAUTHORIZED;
        Some(Challenge::bearer(&challenges).filter(|_| is_challenge).map(|bearer| bearer.realm.clone()))
    };
    let asked = homes.iter().filter(|home| home.is_secure()).map(ask);
    let answered: Vec<Option<String>> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    let mut now = (!answered.is_empty()).then_some(NamedNow::Unsaid)?;
    for url in answered.iter().flatten() {
        let Ok(realm) = url.parse::<Realm>() else { continue };
        heard(url);
        if realm.authority() == host {
            return Some(NamedNow::Named);
        }
        now = NamedNow::Others;
    }
    Some(now)
}
