//! Chooses the answer for a fault of an upstream, of a parent proxy, or of the cache's disk.
//!
//! Reading: RFC 9209, 2.3 (the kinds of errors of a proxy).

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};

use super::answer::{FaultCause, HandedOver, Refused};
use super::respond::{Failure, away, no_answer, out_of_files};
use crate::cache::Fault;
use crate::host::LogThrottle;
use crate::oci::{Code, error_body};
use crate::telemetry::Kind;
use crate::telemetry::chain;
use crate::upstream::AskError;
use crate::upstream::{Error, ParentError, TokenError, mend_retry_after};
use crate::wire::{Body, end_to_end};

/// When a client is to come back to a host that throttles and does not say for how long.
const UNSAID_WAIT: Duration = Duration::from_secs(60);

/// The registry's refusal as it came, challenge and `Retry-After` included. Where it came to a HEAD, and so without
/// words, a GET gets the proxy's: Docker and Podman read the body to tell what is wrong.
pub(crate) fn pass_on(refused: &Refused, kind: Kind) -> Response<Body> {
    let mut response = Response::new(Body::full(refused.body.clone()));
    *response.status_mut() = refused.status;
    *response.headers_mut() = refused.headers.clone();
    let headers = response.headers_mut();
    end_to_end(headers);
    mend_retry_after(headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_ENCODING);
    if refused.body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (code, words) = words_of(refused.status, kind);
        *response.body_mut() = Body::full(error_body(code, words));
    }
    response
}

/// Sends the client on to the host that the registry redirected to.
pub(crate) fn hand_over(handed_over: &HandedOver) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(&handed_over.url) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn words_of(status: StatusCode, kind: Kind) -> (Code, &'static str) {
    match status {
        StatusCode::NOT_FOUND if kind == Kind::Blob => (Code::BlobUnknown, "blob unknown to registry"),
        StatusCode::NOT_FOUND => (Code::ManifestUnknown, "manifest unknown"),
        StatusCode::UNAUTHORIZED => (Code::Unauthorized, "authentication required"),
        StatusCode::FORBIDDEN => (Code::Denied, "requested access to the resource is denied"),
        StatusCode::TOO_MANY_REQUESTS => (Code::TooManyRequests, "too many requests"),
        _ => (Code::Unknown, "the registry refused the request"),
    }
}

/// The proxy's own answer for a fault that is not a registry's answer.
pub(crate) fn failure(fault: &Fault) -> Failure {
    match FaultCause::of(fault) {
        FaultCause::Upstream(error) => of_registry(error),
        FaultCause::NotAsked(ask_error) => of_ask_error(ask_error),
        FaultCause::Store(error) if error.is_exhausted() => out_of_files(chain(fault)),
        FaultCause::Store(_) => {
            let message = format!("the cache's disk failed: {}", chain(fault));
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "proxy_internal_error", message).later(5)
        }
        FaultCause::NoAnswer => no_answer(),
        // Whoever is throttled comes back later, and reports no broken registry.
        FaultCause::Elsewhere(elsewhere) if elsewhere.status == StatusCode::TOO_MANY_REQUESTS => {
            let wait = fault.retry_after.unwrap_or(UNSAID_WAIT).max(Duration::from_secs(1));
            let (status, code) = (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests);
            let failure = Failure::new(status, code, "http_request_error", chain(fault));
            failure.later(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX))
        }
        FaultCause::Refused(_) | FaultCause::HandedOver(_) | FaultCause::Elsewhere(_) | FaultCause::Other => {
            Failure::new(StatusCode::BAD_GATEWAY, Code::Unavailable, "http_protocol_error", chain(fault))
        }
    }
}

/// The registry could not be asked in the name that it would have taken.
fn of_ask_error(ask_error: &AskError) -> Failure {
    if let Some(error) = ask_error.exchange() {
        let failure = of_registry(error);
        let message = if matches!(error, Error::Parent { .. }) { failure.message.clone() } else { chain(ask_error) };
        return Failure { message, ..failure };
    }
    if let AskError::Token(TokenError::Refused { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. }) = ask_error {
        let failure =
            Failure::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, "http_request_error", chain(ask_error));
        let seconds = retry_after.and_then(|wait| u32::try_from(wait.as_secs()).ok());
        return Failure { retry_after: seconds, ..failure };
    }
    if ask_error.is_denial() {
        return Failure::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "http_request_denied", chain(ask_error));
    }
    Failure::new(StatusCode::BAD_GATEWAY, Code::Unavailable, "proxy_configuration_error", chain(ask_error))
}

/// A registry, or a host that it leads to, could not be asked. Where that host is forbidden, the client is not at
/// fault, as it named the registry only: 502, as RFC 9209, 2.3.5, recommends.
pub(crate) fn of_registry(error: &Error) -> Failure {
    let failure = of_upstream(error);
    if matches!(error, Error::Forbidden(_)) {
        return Failure { status: StatusCode::BAD_GATEWAY, code: Code::Unavailable, ..failure };
    }
    failure
}

/// An upstream that the client named could not be asked.
pub(crate) fn of_upstream(error: &Error) -> Failure {
    let (status, kind) = match error {
        Error::Resolve { .. } | Error::NoAddress { .. } => (StatusCode::BAD_GATEWAY, "dns_error"),
        Error::Away { retry_after, .. } => {
            return away(chain(error), u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX));
        }
        Error::Forbidden(_) => (StatusCode::FORBIDDEN, "destination_ip_prohibited"),
        Error::ConnectionLimit { .. } | Error::Full { .. } | Error::Exhausted { .. } => {
            return out_of_files(chain(error));
        }
        Error::Parent { source, .. } if error.is_ours() => return out_of_files(source.to_string()),
        Error::Connect { .. } => (StatusCode::BAD_GATEWAY, "connection_refused"),
        Error::ConnectTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
        Error::UnknownIssuer { .. } | Error::Certificate { .. } => (StatusCode::BAD_GATEWAY, "tls_certificate_error"),
        Error::Tls { .. } => (StatusCode::BAD_GATEWAY, "tls_protocol_error"),
        Error::FirstByteTimeout { .. } | Error::Idle { .. } | Error::Trickle { .. } => {
            (StatusCode::GATEWAY_TIMEOUT, "http_response_timeout")
        }
        Error::Exchange { .. } | Error::Unfinished { .. } => (StatusCode::BAD_GATEWAY, "http_response_incomplete"),
        Error::Parent { source, .. } => of_parent(source),
        Error::RequestBody { .. } => (StatusCode::BAD_REQUEST, "http_request_error"),
        Error::RequestTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "http_request_error"),
        Error::Misfit { .. } | Error::Unreadable { .. } => (StatusCode::BAD_GATEWAY, "http_protocol_error"),
        Error::ConnectionBound { .. } => (StatusCode::FORBIDDEN, "http_request_denied"),
        Error::Redirects { .. } | Error::InsecureRedirect { .. } | Error::BadLocation { .. } => {
            (StatusCode::BAD_GATEWAY, "http_protocol_error")
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "proxy_configuration_error"),
    };
    let code = match status {
        StatusCode::FORBIDDEN => Code::Denied,
        StatusCode::TOO_MANY_REQUESTS => Code::TooManyRequests,
        _ => Code::Unavailable,
    };
    Failure::new(status, code, kind, told(error))
}

/// What a client may know of an error. A parent's address and its password file are the operator's, and for the log
/// only.
fn told(error: &Error) -> String {
    static SAID: LogThrottle = LogThrottle::new(); // each request may meet it
    if let Error::Parent { to, .. } = error
        && SAID.is_due()
    {
        tracing::warn!(%to, error = chain(error), "a proxy of upstream.proxy could not reach the host; similar failures are not logged for a minute");
    }
    error.for_clients()
}

fn of_parent(error: &ParentError) -> (StatusCode, &'static str) {
    match error {
        ParentError::Reach(error) if error.is_timeout() => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
        ParentError::Silent { .. } => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
        ParentError::Reach(_) => (StatusCode::BAD_GATEWAY, "connection_refused"),
        ParentError::Broken(_) => (StatusCode::BAD_GATEWAY, "connection_terminated"),
        ParentError::HostsOwn => (StatusCode::BAD_GATEWAY, "http_protocol_error"),
        ParentError::LoginWanted | ParentError::LoginRefused | ParentError::Password(_) => {
            (StatusCode::BAD_GATEWAY, "proxy_configuration_error")
        }
        ParentError::Refused { status: StatusCode::TOO_MANY_REQUESTS } => {
            (StatusCode::TOO_MANY_REQUESTS, "http_request_error")
        }
        ParentError::Refused { status: StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT } => {
            (StatusCode::GATEWAY_TIMEOUT, "connection_timeout")
        }
        ParentError::Refused { status } if status.is_client_error() => (StatusCode::FORBIDDEN, "http_request_denied"),
        ParentError::Refused { .. } => (StatusCode::BAD_GATEWAY, "destination_unavailable"),
        ParentError::Loop => (StatusCode::LOOP_DETECTED, "proxy_loop_detected"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oci::Authority;
    use crate::upstream::Unreached;

    fn by_parent(source: ParentError) -> Failure {
        let parent = Authority::parse("proxy.corp.internal:3128", 80).unwrap();
        let to = Authority::parse("quay.io", 443).unwrap();
        of_upstream(&Error::Parent { to, parent, source: Box::new(source) })
    }

    #[test]
    fn a_parents_throttling_is_passed_on_as_such() {
        for (status, answered) in [(403, 403), (408, 504), (429, 429), (502, 502), (504, 504)] {
            let failure = by_parent(ParentError::Refused { status: StatusCode::from_u16(status).unwrap() });
            assert_eq!(failure.status.as_u16(), answered, "{status}");
            assert_eq!(failure.code == Code::TooManyRequests, status == 429);
        }
    }

    #[test]
    fn a_client_is_not_told_where_a_parent_is() {
        let parent = Authority::parse("proxy.corp.internal:3128", 80).unwrap();
        let late = Error::ConnectTimeout { to: parent, after: Duration::from_secs(5) };
        let late = Unreached { cause: Arc::new(late), is_timeout: true, is_ours: false };
        for source in [ParentError::Reach(late), ParentError::LoginWanted, ParentError::Loop] {
            let message = by_parent(source).message;
            assert!(message.starts_with("quay.io") && !message.contains("corp.internal"), "{message}");
        }
    }
}
