//! Streams through what is not cached: tokens, lists, referrers, pushes, and plain HTTP by absolute-form.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;

use super::asked::AskedUpstream;
use super::clients::Client;
use super::context::Context;
use super::faults;
use super::record::Record;
use super::registry::registry::Whose;
use super::registry::verdict::Verdict;
use super::respond::{self, Failure, Rendered};
use super::served::ServedAnswer;
use super::state::Proxy;
use crate::host::LogThrottle;
use crate::oci::{Authority, Code};
use crate::telemetry::{Kind, Outcome, UpstreamAnswer};
use crate::upstream::{self, Endpoint, EndpointConfig, Error, Upstream, mend_retry_after};
use crate::wire::{self, Body, BodyError, Pseudonym, Received};

/// An answer to a request that was passed on.
pub(crate) struct PassedOn {
    pub(crate) answer: ServedAnswer,
    /// Whether the registry may have done what was asked, whatever the answer.
    pub(crate) may_have_acted: bool,
}

/// Passes a request on to a registry's endpoint and its answer back, both unbuffered. The caller's
/// credentials go along only where they may.
pub(crate) async fn pass<B>(
    context: &Context<'_>,
    upstream: &Upstream,
    endpoint: &Endpoint,
    kind: Kind,
    request: Request<B>,
) -> ServedAnswer
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pass_write(context, upstream, endpoint, kind, request).await.answer
}

/// The same, and whether the registry may have acted on it.
pub(crate) async fn pass_write<B>(
    context: &Context<'_>,
    upstream: &Upstream,
    endpoint: &Endpoint,
    kind: Kind,
    request: Request<B>,
) -> PassedOn
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (proxy, registry) = (context.proxy, context.registry);
    if kind == Kind::Token && !endpoint.is_secure() {
        // Its form may hold a password.
        return PassedOn { answer: respond::no_plain_token(registry.name()).into(), may_have_acted: false };
    }
    let (mut parts, body) = request.into_parts();
    let waits = kind == Kind::Upload && upstream::expects(&parts.headers);
    prepare(&mut parts, &proxy.pseudonym);
    let is_for_nobody = matches!(registry.whose(), Whose::Nobody) && kind != Kind::Token;
    if !endpoint.authoritative() || is_for_nobody {
        parts.headers.remove(http::header::AUTHORIZATION);
        parts.headers.remove(http::header::COOKIE);
    }
    // A read was checked before: a framed empty body is sent on without framing.
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let body = if reads || http_body::Body::is_end_stream(&body) { Body::empty() } else { Body::wrap(body) };
    let request = Request::from_parts(parts, body);
    let request = if waits { upstream::waiting(request) } else { request };
    // Small requests go over the connection that the next request will need.
    let question = AskedUpstream::begin(kind, endpoint.authority());
    let sent = match kind {
        Kind::Ping | Kind::Token => upstream.send(endpoint, request).await,
        _ => upstream.pass(endpoint, request).await,
    };
    context.asked().note(&question, sent.as_ref());
    let may_have_acted = sent.as_ref().err().is_none_or(Error::may_have_acted);
    let answer = match sent {
        Ok(response) => counted(context, returned(response)).into(),
        Err(error @ Error::Away { .. }) => faults::of_registry(&error).into(),
        Err(error @ Error::ConnectionBound { .. }) => faults::of_registry(&error).into(),
        Err(error @ (Error::RequestBody { .. } | Error::RequestTimeout { .. })) => {
            tracing::debug!(registry = %registry.name(), kind = kind.label(), error = respond::chain(&error), "a request was cut off");
            faults::of_registry(&error).closing().into()
        }
        Err(error) => {
            // A client can have as many of them fail as it likes. What makes an outage is told as such.
            static SAID: LogThrottle = LogThrottle::new();
            let is_told = upstream.has_outage() && error.is_outage_evidence();
            if !is_told && SAID.is_due() {
                tracing::warn!(registry = %registry.name(), kind = kind.label(), error = respond::chain(&error), "a request could not be forwarded; similar failures are not logged for a minute");
            }
            tracing::debug!(registry = %registry.name(), kind = kind.label(), error = respond::chain(&error), "a request could not be forwarded");
            faults::of_registry(&error).into()
        }
    };
    PassedOn { answer, may_have_acted }
}

/// Runs a request that may take long within its client's share of such requests, until its answer has ended.
///
/// Threat: one client has requests passed on that are answered late or never, or takes nothing of the answers, until no
/// connection to a registry is left for the others.
pub(crate) async fn within_share(
    proxy: &Proxy,
    client: IpAddr,
    answer: impl Future<Output = ServedAnswer>,
) -> ServedAnswer {
    let place = match proxy.limiter.of(client).relay() {
        Ok(place) => place,
        Err(refusal) => return respond::too_many(&refusal).into(),
    };
    match answer.await {
        ServedAnswer::Message(response) => ServedAnswer::Message(response.map(|body| {
            Body::wrap(body.map_frame(move |frame| {
                let _held = &place;
                frame
            }))
        })),
        words => words, // no connection is held for them any longer
    }
}

/// An answer of a registry that is passed on: its bytes count, and its `Retry-After` is one.
pub(crate) fn counted(context: &Context<'_>, mut response: Response<Body>) -> Response<Body> {
    mend_retry_after(response.headers_mut());
    let metrics = context.asked().metrics().clone();
    response.map(|body| {
        Body::wrap(body.map_frame(move |frame| {
            metrics.upstream_bytes(frame.data_ref().map_or(0, |data| data.len() as u64));
            frame
        }))
    })
}

/// Plain HTTP through the proxy (`GET http://host/path`): judged as a tunnel to that host is.
pub(crate) async fn absolute(proxy: &Arc<Proxy>, client: Client, mut request: Request<Received>) -> Rendered {
    // Without `user:password@`, which some clients write there: it is a secret, and not for this line. A second `@` is
    // no part of a host, and so an error below.
    let text = request.uri().authority().map_or("", |authority| authority.as_str());
    let text = text.split_once('@').map_or(text, |(_, host)| host).to_owned();
    let parsed = Authority::parse(&text, 80);
    let host = if parsed.is_ok() { text.as_str() } else { "-" }; // never what did not parse
    let mut record = Record::new(&proxy.metrics, client.from, &request, host, "http");
    record.user(client.user.as_ref());
    let version = request.version();
    let judged = judge_absolute(proxy, &request, &text);
    let mut rendered = match judged {
        Ok(_) if wire::ends_here(&mut request) => {
            record.verdict("own", 405);
            respond::no_further().render()
        }
        Err(failure) => {
            record.verdict("refuse", failure.status.as_u16());
            failure.render()
        }
        Ok(endpoint) => {
            record.verdict("forward", 0);
            let (mut parts, body) = request.into_parts();
            prepare(&mut parts, &proxy.pseudonym);
            let begun = Instant::now();
            let relayed = proxy.policy().upstream.relay(&endpoint, Request::from_parts(parts, Body::wrap(body))).await;
            let status = relayed.as_ref().ok().map(|response| response.status().as_u16());
            let host = endpoint.authority().short(80).to_string();
            record.upstream(UpstreamAnswer { host, status, elapsed: begun.elapsed() });
            match relayed {
                Ok(response) => returned(response).into(),
                Err(error @ (Error::RequestBody { .. } | Error::RequestTimeout { .. })) => {
                    faults::of_upstream(&error).closing().render()
                }
                Err(error) => faults::of_upstream(&error).render(),
            }
        }
    };
    respond::mark(rendered.response.headers_mut(), Outcome::Bypass, false, None);
    wire::via(rendered.response.headers_mut(), version);
    record.attach(rendered)
}

fn judge_absolute(proxy: &Proxy, request: &Request<Received>, authority: &str) -> Result<Endpoint, Failure> {
    let refuse = |message: &str| Failure::new(StatusCode::FORBIDDEN, Code::Denied, "http_request_denied", message);
    let bad = |message: &str| Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, "http_request_error", message);
    if request.uri().scheme_str() != Some("http") {
        return Err(bad("only http:// URLs are taken here; https goes by CONNECT"));
    }
    let authority = Authority::parse(authority, 80).map_err(|error| bad(&error.to_string()))?;
    let policy = proxy.policy();
    match policy.judge(&authority) {
        Verdict::Refuse(refusal) => return Err(refuse(&refusal.to_string())),
        Verdict::Intercept(_) | Verdict::Uncovered(_) => return Err(refuse("this registry is reached by https only")),
        Verdict::Tunnel => {}
    }
    if let Some(forbidden) = policy.upstream.forbidden(&authority) {
        return Err(faults::of_upstream(&Error::Forbidden(forbidden)));
    }
    Endpoint::parse(&EndpointConfig::of_url(format!("http://{authority}"))).map_err(|error| bad(&error.to_string()))
}

/// Prepares a request for the upstream: end-to-end headers only. Its framing is set where it is sent.
pub(crate) fn prepare(parts: &mut http::request::Parts, pseudonym: &Pseudonym) {
    wire::end_to_end(&mut parts.headers);
    pseudonym.mark(&mut parts.headers, parts.version);
    parts.headers.remove(HOST);
    parts.version = http::Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    if let Some(target) = parts.uri.path_and_query() {
        parts.uri = target.clone().into();
    }
}

/// Prepares an upstream's answer for the client: end-to-end headers only.
pub(crate) fn returned(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    wire::end_to_end(&mut parts.headers);
    parts.version = http::Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    Response::from_parts(parts, Body::wrap(body.map_err(BodyError::new)))
}
