//! Sends a client to our own token service, and tells when a registry's service has failed.

use http::StatusCode;
use http::header::{HeaderValue, WARNING, WWW_AUTHENTICATE};

use crate::oci::{Challenge, Code, Repository};
use crate::proxy::context::Context;
use crate::proxy::respond::{AWAY_WARNING, Failure};
use crate::proxy::tokens::local::LocalTokens;

/// 401: a token is to be had from us. With a repository, for pulling from it.
pub(crate) fn challenge(context: &Context<'_>, repository: Option<&Repository>) -> Failure {
    let naming = context.naming;
    let written = naming.and_then(|naming| naming.repository.as_deref());
    let scopes = repository.map(|name| format!("repository:{}:pull", written.unwrap_or(name.as_str())));
    let own = || format!("https://{}", context.authority.short(443)).into();
    let base = naming.map_or_else(own, |naming| naming.base.clone());
    let bearer = LocalTokens::challenge(&base, scopes.into_iter().collect());
    let is_away = context.outage.is_open();
    let why = context.outage.why(context.authority).filter(|_| is_away);
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let message = match is_away {
        true => format!("authentication required; while the registry is unreachable{why}, this proxy issues the token"),
        false => "authentication required; this proxy issues the token".to_owned(),
    };
    let mut failure = Failure::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "http_request_denied", message);
    if is_away {
        failure = failure.with(WARNING, HeaderValue::from_static(AWAY_WARNING));
    }
    match HeaderValue::from_str(&Challenge::Bearer(bearer).to_string()) {
        Ok(value) => failure.with(WWW_AUTHENTICATE, value),
        Err(_) => failure,
    }
}

/// Whether a service says that it cannot, or not now: what is cached needs no token of it.
pub(crate) fn has_failed(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}
