//! The one place where facts become an answer: status, OCI error body, `Cache-Status`, `Proxy-Status`.
//!
//! Reading: RFC 9211 (Cache-Status), RFC 9209 (Proxy-Status), RFC 9110 section 15, distribution-spec "Errors".

use std::error::Error as _;
use std::time::Duration;

use http::header::{
    AGE, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER, WARNING,
};
use http::{Response, StatusCode};

use super::access::Unasked;
use super::answer::Refused;
use super::limit::Refusal;
use crate::cache::Fault;
use crate::oci::{Code, error_body};
use crate::store;
pub(super) use crate::telemetry::chain;
use crate::telemetry::{Kind, Outcome};
use crate::upstream::{Error, ParentError, TokenError};
use crate::wire::{Body, Malformed, end_to_end};

/// `Cache-Status`
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// `Proxy-Status`
pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// `Docker-Content-Digest`
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `Docker-Distribution-Api-Version`
pub(super) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The `Proxy-Status` of what is not asked, as the registry is away.
const AWAY: &str = "destination_unavailable";

/// Marks such an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Away;

/// The `Proxy-Status` of what is not asked for want of files that may be open here.
const OURS: &str = "connection_limit_reached";

/// Marks such an answer: it says nothing of the registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours;

/// Marks an answer by which the proxy refuses a request, with the reason: the audit log has not been told yet.
#[derive(Clone, Debug)]
pub(super) struct Declined(pub(super) String);

/// An answer that the proxy itself gives, in words.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: Code,
    pub(super) message: String,
    /// A Proxy-Status error type (RFC 9209, 2.3).
    pub(super) error: &'static str,
    pub(super) retry_after: Option<u32>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: Code, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), error, retry_after: None }
    }

    fn later(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Whether the proxy refuses what was asked: neither 401, which asks for more, nor what is not there or came too late.
    fn declines(&self) -> bool {
        let is_ours = matches!(
            self.error,
            "http_request_error" | "http_request_denied" | "destination_ip_prohibited" | "proxy_loop_detected"
        );
        let is_denied = matches!(self.status.as_u16(), 400 | 403 | 405 | 407 | 421 | 501 | 508);
        is_ours && is_denied || self.error == "http_request_denied" && self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// The answer.
    pub(super) fn respond(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(error_body(self.code, &self.message)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        let details = self.message.replace(['"', '\\'], "'");
        let status = format!("pullthrough; error={}; details=\"{details}\"", self.error);
        if let Ok(value) = HeaderValue::from_str(&status.replace(|c: char| !(' '..='~').contains(&c), "?")) {
            headers.insert(PROXY_STATUS, value);
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD")); // RFC 9110, 15.5.6
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.error == AWAY {
            response.extensions_mut().insert(Away);
        }
        if self.error == OURS {
            response.extensions_mut().insert(Ours);
        }
        if self.declines() {
            response.extensions_mut().insert(Declined(self.message.clone()));
        }
        response
    }
}

/// What a fault becomes: the registry's own answer, if it gave one, else ours.
pub(super) fn fault(fault: &Fault, kind: Kind) -> Response<Body> {
    match fault.cause.downcast_ref::<Refused>() {
        Some(refused) => pass_on(refused, kind),
        None => failure(fault).respond(),
    }
}

/// The answer to a HEAD: its head alone. hyper leaves a body out in HTTP/1.1, and sends it in HTTP/2, where clients
/// take it for an error of the protocol.
pub(super) fn head_only(mut response: Response<Body>) -> Response<Body> {
    let length = http_body::Body::size_hint(response.body()).exact().filter(|length| *length > 0);
    if let Some(length) = length.filter(|_| !response.headers().contains_key(CONTENT_LENGTH)) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Body::empty();
    response
}

/// The registry's refusal as it came, challenge and `Retry-After` included. Where it came to a HEAD, and so without
/// words, a GET gets ours: Docker and Podman read the body to tell what is wrong.
fn pass_on(refused: &Refused, kind: Kind) -> Response<Body> {
    let mut response = Response::new(Body::full(refused.body.clone()));
    *response.status_mut() = refused.status;
    *response.headers_mut() = refused.headers.clone();
    let headers = response.headers_mut();
    end_to_end(headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_ENCODING);
    if refused.body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (code, words) = words_of(refused.status, kind);
        *response.body_mut() = Body::full(error_body(code, words));
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

/// The words for a fault that no registry gave.
fn failure(fault: &Fault) -> Failure {
    if let Some(error) =
        fault.cause.downcast_ref::<Error>().or_else(|| fault.cause.source().and_then(|source| source.downcast_ref()))
    {
        return of_registry(error);
    }
    if let Some(unasked) = fault.cause.downcast_ref::<Unasked>() {
        return of_unasked(unasked);
    }
    if fault.cause.downcast_ref().is_some_and(store::Error::is_exhausted) {
        return out_of_files(chain(fault));
    }
    if fault.cause.is::<store::Error>() {
        let message = format!("the cache's disk failed: {}", chain(fault));
        return Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "proxy_internal_error", message)
            .later(5);
    }
    if fault.cause.is::<crate::cache::NoAnswer>() {
        return no_answer();
    }
    Failure::new(StatusCode::BAD_GATEWAY, Code::Unavailable, "http_protocol_error", chain(fault))
}

/// The registry could not be asked in the name that it would have taken.
fn of_unasked(unasked: &Unasked) -> Failure {
    if let Some(error) = unasked.exchange() {
        let failure = of_registry(error);
        let message = if matches!(error, Error::Parent { .. }) { failure.message.clone() } else { chain(unasked) };
        return Failure { message, ..failure };
    }
    if let Unasked::Token(TokenError::Refused { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. }) = unasked {
        let failure =
            Failure::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, "http_request_error", chain(unasked));
        let seconds = retry_after.and_then(|wait| u32::try_from(wait.as_secs()).ok());
        return Failure { retry_after: seconds, ..failure };
    }
    if unasked.is_denial() {
        return Failure::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "http_request_denied", chain(unasked));
    }
    Failure::new(StatusCode::BAD_GATEWAY, Code::Unavailable, "proxy_configuration_error", chain(unasked))
}

/// A registry could not be asked, or what it leads to. That this is forbidden is nothing that the client did, who has
/// named the registry alone: 502, as RFC 9209, 2.3.5, recommends.
pub(super) fn of_registry(error: &Error) -> Failure {
    let failure = of_upstream(error);
    if matches!(error, Error::Forbidden(_)) {
        return Failure { status: StatusCode::BAD_GATEWAY, code: Code::Unavailable, ..failure };
    }
    failure
}

/// An upstream could not be asked that the client has named.
pub(super) fn of_upstream(error: &Error) -> Failure {
    let (status, kind) = match error {
        Error::Resolve { .. } | Error::NoAddress { .. } => (StatusCode::BAD_GATEWAY, "dns_error"),
        Error::Away { retry_after, .. } => {
            return away(chain(error), u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX));
        }
        Error::Forbidden(_) => (StatusCode::FORBIDDEN, "destination_ip_prohibited"),
        Error::Crowded { .. } | Error::Full { .. } | Error::Exhausted { .. } => return out_of_files(chain(error)),
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

/// What a client may know of an error: of a parent neither its address nor the password's file, which are the
/// operator's, and so are for the log.
fn told(error: &Error) -> String {
    let Error::Parent { to, source, .. } = error else { return chain(error) };
    tracing::warn!(%to, error = chain(error), "a proxy of upstream.proxy did not lead there");
    match &**source {
        ParentError::Reach(_) => format!("{to} could not be reached: the proxy that leads there cannot be reached"),
        source => format!("{to} could not be reached: {source}"),
    }
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

/// It is for want of files or memory here, and passes.
fn out_of_files(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, OURS, message).later(5)
}

/// The registry is away, and what was asked is not cached; for seconds.
pub(super) fn away(message: impl Into<String>, seconds: u32) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, AWAY, message).later(seconds)
}

/// The registry has not answered in the time that clients wait; what was begun goes on.
pub(super) fn no_answer() -> Failure {
    let message = "the registry has not answered yet; the request goes on behind, ask again";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "http_response_timeout", message).later(5)
}

/// 503, or 429 where it is this client alone that has too much: it comes back when some of that is done.
pub(super) fn too_many(refusal: &Refusal) -> Failure {
    let (status, code, kind) = if refusal.is_clients_own() {
        (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, "http_request_denied")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "proxy_internal_error")
    };
    Failure::new(status, code, kind, refusal.to_string()).later(5)
}

/// 416 with the length (RFC 9110, 15.5.17).
pub(super) fn unsatisfiable(total: u64) -> Response<Body> {
    let failure = Failure::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        Code::Unknown,
        "http_request_error",
        "the range lies outside the content",
    );
    let mut response = failure.respond();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{total}")) {
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    response
}

/// 405: the proxy is for pulling.
pub(super) fn no_push(registry: &str) -> Response<Body> {
    let message = format!(
        "pushes and deletes to {registry} do not pass this proxy: set push: allow for it, or push without the proxy"
    );
    no_method(&message).respond()
}

/// 405: a method that no registry has.
pub(super) fn no_method(message: &str) -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, "http_request_denied", message)
}

/// 405: the proxy itself is asked, as `Max-Forwards` says (RFC 9110, 7.6.2).
pub(super) fn no_further() -> Failure {
    no_method("this is the proxy: the request goes no further than its Max-Forwards says")
}

/// 400 or 501: a request that has not the form that HTTP prescribes.
pub(super) fn malformed(flaw: Malformed) -> Failure {
    Failure::new(flaw.status(), Code::Unsupported, "http_request_error", flaw.to_string())
}

/// 414 or 431: a server could end the connection over it, which others share.
pub(super) fn oversized(status: StatusCode) -> Failure {
    let message = match status {
        StatusCode::URI_TOO_LONG => "the request's target is longer than registries take",
        _ => "a field of the request is longer than registries take",
    };
    Failure::new(status, Code::Unsupported, "http_request_error", message)
}

/// 400: servers could read another request in it than this proxy does.
pub(super) fn ambiguous(message: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, "http_request_error", message)
}

/// The answer, with the word that the connection ends behind it: what follows on it may be no request.
pub(super) fn last_of_connection(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer to what the audit log was told already.
pub(super) fn told_of(mut response: Response<Body>) -> Response<Body> {
    response.extensions_mut().remove::<Declined>();
    response
}

/// 403: a rule of `clients.rules` says no.
pub(super) fn no_entry(rule: &str) -> Response<Body> {
    let message = format!("the rule {rule} of this proxy does not allow this");
    Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message).respond()
}

/// 503: too many passwords of one address are being looked at.
pub(super) fn crowded() -> Failure {
    let message = "too many passwords from this address are being looked at; ask again";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::TooManyRequests, "proxy_internal_response", message).later(5)
}

/// 403: whoever is on the way would read it.
pub(super) fn no_plain_token(registry: &str) -> Response<Body> {
    let message = format!("{registry} is reached over plain HTTP: no request for a token goes there");
    Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message).respond()
}

/// 401, without a challenge: the client has answered one already.
pub(super) fn unauthorized(message: &str) -> Response<Body> {
    Failure::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "http_request_denied", message).respond()
}

/// 421: the request is for another host than the connection was opened to.
pub(super) fn misdirected() -> Response<Body> {
    let message = "this connection was opened to another host than the request names";
    let mut response =
        Failure::new(StatusCode::MISDIRECTED_REQUEST, Code::Denied, "http_request_denied", message).respond();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Says where the answer came from, and how old a remembered one is.
pub(super) fn mark(headers: &mut HeaderMap, outcome: Outcome, stored: bool, age: Option<Duration>) {
    let value = match outcome {
        Outcome::Hit => "pullthrough; hit",
        Outcome::Miss if stored => "pullthrough; fwd=uri-miss; stored",
        Outcome::Miss => "pullthrough; fwd=uri-miss",
        Outcome::Collapsed => "pullthrough; fwd=uri-miss; collapsed",
        Outcome::Stale => "pullthrough; hit; detail=stale-if-error",
        Outcome::Revalidated => "pullthrough; fwd=stale; fwd-status=200",
        Outcome::Bypass => "pullthrough; fwd=bypass",
    };
    headers.insert(CACHE_STATUS, HeaderValue::from_static(value));
    if let Some(age) = age.filter(|_| matches!(outcome, Outcome::Hit | Outcome::Stale | Outcome::Revalidated)) {
        headers.insert(AGE, age.as_secs().min(i32::MAX as u64).into());
    }
    if outcome == Outcome::Stale {
        headers.insert(
            WARNING,
            HeaderValue::from_static("299 - \"the registry did not answer; this is its last known answer\""),
        );
    }
}

/// 508: the request was here before. Two proxies are each other's parent.
pub(super) fn looped() -> Response<Body> {
    let message = "the request was at this proxy before: no two proxies may be each other's parent (upstream.proxy)";
    Failure::new(StatusCode::LOOP_DETECTED, Code::Unavailable, "proxy_loop_detected", message).respond()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::oci::Authority;

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
        for source in [ParentError::Reach(Arc::new(late)), ParentError::LoginWanted, ParentError::Loop] {
            let message = by_parent(source).message;
            assert!(message.starts_with("quay.io") && !message.contains("corp.internal"), "{message}");
        }
    }
}
