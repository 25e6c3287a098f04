//! Sends a client to our own token service, and tells when a registry's service has failed.

use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::oci::{Challenge, Code, Repository};
use crate::proxy::context::Context;
use crate::proxy::respond::Failure;
use crate::proxy::tokens::local::LocalTokens;

/// 401: a token is to be had from us. With a repository, for pulling from it.
pub(crate) fn challenge(context: &Context<'_>, repository: Option<&Repository>) -> Failure {
    let scopes = repository.map(|name| format!("repository:{name}:pull"));
    let bearer = LocalTokens::challenge(context.authority, scopes.into_iter().collect());
    let message = "authentication required; while the registry is unreachable, this proxy issues the token";
    let failure = Failure::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "http_request_denied", message);
    match HeaderValue::from_str(&Challenge::Bearer(bearer).to_string()) {
        Ok(value) => failure.with(WWW_AUTHENTICATE, value),
        Err(_) => failure,
    }
}

/// Whether a service says that it cannot, or not now: what is cached needs no token of it.
pub(crate) fn has_failed(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}
