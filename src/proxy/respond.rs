//! Turns facts into an answer of the proxy's own: status, OCI error body, `Cache-Status`, `Proxy-Status`.
//!
//! Reading: RFC 9211 (Cache-Status), RFC 9209 (Proxy-Status), RFC 9110 section 15, distribution-spec "Errors".

use std::time::Duration;

use http::header::{
    AGE, ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, WARNING,
};
use http::{Response, StatusCode};

use super::limit::Exceeded;
use crate::oci::{Code, error_body};
use crate::telemetry::Outcome;
pub(crate) use crate::telemetry::chain;
use crate::wire::{Body, Malformed};

/// `Cache-Status`
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// `Proxy-Status`
pub(crate) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// `Docker-Content-Digest`
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `Docker-Distribution-Api-Version`
pub(crate) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The `Proxy-Status` where the registry is not asked, as it is unreachable.
const AWAY: &str = "destination_unavailable";

/// The `Proxy-Status` where the registry is not asked, as too many files are open here.
const OURS: &str = "connection_limit_reached";

/// Whose word an answer is, where that decides whether another registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// The registry's.
    Registry,
    /// That of a server before the registry, which may be away.
    Gateway,
    /// This proxy's.
    Proxy,
    /// It came as it streams: its body shows it.
    Unheard,
}

/// An answer as a client gets it, and what the audit log is to be told of it.
pub(crate) struct Rendered {
    pub(crate) response: Response<Body>,
    pub(crate) speaker: Speaker,
    /// Why it is an error, where the proxy says so: for the access line.
    pub(crate) reason: Option<String>,
    /// Why the proxy refuses the request, where it does and the audit log was not told so yet.
    pub(crate) declined: Option<String>,
}

/// An answer that the proxy itself gives, in words.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) code: Code,
    pub(crate) message: String,
    /// A Proxy-Status error type (RFC 9209, 2.3).
    pub(crate) error: &'static str,
    pub(crate) retry_after: Option<u32>,
    /// Further fields, in place of those that every answer has.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// The audit log has been told of it.
    pub(crate) is_told: bool,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: Code, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), error, retry_after: None, fields: Vec::new(), is_told: false }
    }

    pub(crate) fn later(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// With this field besides.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }

    /// With the word that the connection ends behind it: what follows on it may be no request.
    pub(crate) fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// The same, of which the audit log was told already.
    pub(crate) fn told(self) -> Self {
        Self { is_told: true, ..self }
    }

    /// Whether nobody was asked, as the registry is away.
    pub(crate) fn is_away(&self) -> bool {
        self.error == AWAY
    }

    /// Whether nobody was asked for want of files or memory here.
    pub(crate) fn is_ours(&self) -> bool {
        self.error == OURS
    }

    /// Why the proxy refuses the request, if it does and the audit log was not told so yet.
    pub(crate) fn declined(&self) -> Option<&str> {
        (self.declines() && !self.is_told).then_some(&*self.message)
    }

    /// Whether the proxy refuses what was asked: neither 401, which asks for more, nor what is not there or came too
    /// late.
    fn declines(&self) -> bool {
        let is_ours = matches!(
            self.error,
            "http_request_error" | "http_request_denied" | "destination_ip_prohibited" | "proxy_loop_detected"
        );
        let is_denied = matches!(self.status.as_u16(), 400 | 403 | 405 | 407 | 421 | 501 | 508);
        is_ours && is_denied || self.error == "http_request_denied" && self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// The answer.
    pub(crate) fn render(&self) -> Rendered {
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
        for (name, value) in &self.fields {
            headers.insert(name, value.clone());
        }
        let (reason, declined) = (Some(self.message.clone()), self.declined().map(str::to_owned));
        Rendered { response, speaker: Speaker::Proxy, reason, declined }
    }
}

impl From<Response<Body>> for Rendered {
    fn from(response: Response<Body>) -> Self {
        Self { response, speaker: Speaker::Unheard, reason: None, declined: None }
    }
}

/// The answer to a HEAD: its head alone. hyper leaves a body out in HTTP/1.1, and sends it in HTTP/2, where clients
/// take it for an error of the protocol.
pub(crate) fn head_only(mut response: Response<Body>) -> Response<Body> {
    let length = http_body::Body::size_hint(response.body()).exact().filter(|length| *length > 0);
    if let Some(length) = length.filter(|_| !response.headers().contains_key(CONTENT_LENGTH)) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Body::empty();
    response
}

/// 503: too many files are open or too much memory is in use here; this passes.
pub(crate) fn out_of_files(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, OURS, message).later(5)
}

/// Marks an answer that the proxy itself gives as the registry is unreachable.
pub(crate) const AWAY_WARNING: &str = "299 - \"the registry is unreachable; this proxy answers in its place\"";

/// 503: the registry is unreachable, and the content is not cached; try again in so many seconds.
pub(crate) fn away(message: impl Into<String>, seconds: u32) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, AWAY, message).later(seconds)
}

/// 503: the registry has not answered in the time that clients wait; the download continues.
pub(crate) fn no_answer() -> Failure {
    let message = "the registry has not answered yet; the download continues, try again";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "http_response_timeout", message).later(5)
}

/// 503 where rules cannot be judged, as the cache's disk does not answer.
pub(crate) fn unknown_detours() -> Failure {
    let message = "the cache's disk does not answer, and rules depend on what it holds; try again";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "proxy_internal_error", message).later(5)
}

/// 503, or 429 where this client alone exceeds a limit and can come back when some of its requests are done.
pub(crate) fn too_many(refusal: &Exceeded) -> Failure {
    let (status, code, kind) = if refusal.is_clients_own() {
        (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, "http_request_denied")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "proxy_internal_error")
    };
    Failure::new(status, code, kind, refusal.to_string()).later(5)
}

/// 416 with the length (RFC 9110, 15.5.17).
pub(crate) fn unsatisfiable(total: u64) -> Failure {
    let failure = Failure::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        Code::Unknown,
        "http_request_error",
        "the range is outside the content",
    );
    match HeaderValue::from_str(&format!("bytes */{total}")) {
        Ok(range) => failure.with(CONTENT_RANGE, range),
        Err(_) => failure,
    }
}

/// 405: the proxy is for pulling.
pub(crate) fn no_push(registry: &str) -> Failure {
    let message = format!(
        "this proxy does not allow pushes and deletes to {registry}: set push: allow for it, or push without the proxy"
    );
    no_method(&message)
}

/// 404: a mirror's name of an upload was not given out by this process.
pub(crate) fn no_such_upload() -> Failure {
    let message = "blob upload unknown to this proxy: start the upload again";
    Failure::new(StatusCode::NOT_FOUND, Code::UploadUnknown, "http_request_error", message)
}

/// 405: no registry has this method.
pub(crate) fn no_method(message: &str) -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, "http_request_denied", message)
}

/// 405: `Max-Forwards` makes the proxy the recipient (RFC 9110, 7.6.2).
pub(crate) fn no_further() -> Failure {
    no_method("this is the proxy: Max-Forwards stops the request here")
}

/// 400 or 501: the request does not have the form that HTTP prescribes.
pub(crate) fn malformed(flaw: Malformed) -> Failure {
    Failure::new(flaw.status(), Code::Unsupported, "http_request_error", flaw.to_string())
}

/// 414 or 431: a server could end the connection over it, which others share.
pub(crate) fn oversized(status: StatusCode) -> Failure {
    let message = match status {
        StatusCode::URI_TOO_LONG => "the request's target is longer than registries accept",
        _ => "a header of the request is longer than registries accept",
    };
    Failure::new(status, Code::Unsupported, "http_request_error", message)
}

/// 400: servers could read the request in another way than this proxy does.
pub(crate) fn ambiguous(message: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, "http_request_error", message)
}

/// 403: a rule of `clients.rules` says no.
pub(crate) fn no_entry(rule: &str) -> Failure {
    let message = format!("the rule {rule} of this proxy does not allow this");
    Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message)
}

/// 503: too many passwords from one address are being checked.
pub(crate) fn too_many_passwords() -> Failure {
    let message = "too many passwords from this address are being checked; try again";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, Code::TooManyRequests, "proxy_internal_response", message).later(5)
}

/// 403: anybody on the path could read it.
pub(crate) fn no_plain_token(registry: &str) -> Failure {
    let message = format!("{registry} is reached over plain HTTP: token requests are not sent there");
    Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message)
}

/// 401, without a challenge: the client has answered one already.
pub(crate) fn unauthorized(message: &str) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "http_request_denied", message)
}

/// 421: the request is for another host than the connection was opened to.
pub(crate) fn misdirected() -> Failure {
    let message = "the request names another host than this connection was opened to";
    Failure::new(StatusCode::MISDIRECTED_REQUEST, Code::Denied, "http_request_denied", message).closing()
}

/// Marks where the answer came from, and how old a remembered one is.
pub(crate) fn mark(headers: &mut HeaderMap, outcome: Outcome, stored: bool, age: Option<Duration>) {
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

/// 508: the request has been here before, so two proxies are each other's parent.
pub(crate) fn looped() -> Failure {
    let message =
        "the request has passed through this proxy before: no two proxies may be each other's parent (upstream.proxy)";
    Failure::new(StatusCode::LOOP_DETECTED, Code::Unavailable, "proxy_loop_detected", message)
}
