//! One request inside an intercepted connection: its host is checked, its path routed, its answer marked.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{Method, Request, Response};
use hyper::body::Incoming;

use super::config::Push;
use super::connection::Proxy;
use super::errand;
use super::guests::{AuditOutcome, Judgement, Visitor};
use super::policy::Policy;
use super::pull::{PATIENCE, Pull, Pulled};
use super::record::Record;
use super::registry::Registry;
use super::{forward, ping, respond};
use crate::cache::Place;
use crate::oci::{Authority, Reference, Route};
use crate::telemetry::{Kind, Outcome};
use crate::upstream::Endpoint;
use crate::wire::{self, Body};

/// Answers a request on a connection that was opened to `authority`.
pub(super) async fn answer(
    proxy: Arc<Proxy>,
    visitor: Visitor,
    authority: Authority,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut record =
        Record::new(&proxy.metrics, visitor.client, request.method().as_str(), authority.short(443), "other");
    let policy = proxy.policy();
    let registry = policy.registry(&authority).filter(|_| names(&request, &authority));
    let Some(registry) = registry.filter(|_| policy.admits(visitor.client)) else {
        record.verdict("refuse", 421);
        return record.attach(respond::misdirected());
    };
    let version = request.version();
    let errand = errand::of(&registry, &visitor, &authority, &request);
    let mut response = match errand.judge(&policy.house.rules) {
        Judgement::Denied(rule) => {
            record.registry(registry.name(), Kind::from(errand.route()));
            record.detail(format!("refused by the rule {rule}"));
            errand.note(&policy.house, None, AuditOutcome::Refused, Some(rule.clone()));
            respond::no_entry(&rule)
        }
        Judgement::Allowed(rule) => {
            let response = dispatch(&proxy, &policy, registry, &authority, visitor.client, request, &mut record).await;
            errand.note_answer(&policy.house, &response, rule);
            response
        }
    };
    wire::via(response.headers_mut(), version);
    record.attach(response)
}

/// Whether the request is for the host that CONNECT named. HTTP/2 says it in `:authority`, HTTP/1.1 in Host.
fn names<B>(request: &Request<B>, authority: &Authority) -> bool {
    let host = request.headers().get(HOST).map(|value| value.to_str().unwrap_or_default());
    let target = request.uri().authority().map(|authority| authority.as_str());
    let mut said = target.into_iter().chain(host).peekable();
    said.peek().is_some() && said.all(|text| Authority::parse(text, 443).as_ref() == Ok(authority))
}

async fn dispatch(
    proxy: &Arc<Proxy>,
    policy: &Policy,
    registry: Arc<Registry>,
    authority: &Authority,
    client: IpAddr,
    request: Request<Incoming>,
    record: &mut Record,
) -> Response<Body> {
    let route = if registry.is_at(authority) { Route::parse(request.uri().path()) } else { Route::Other };
    let kind = kind(&registry, authority, &route, request.uri().path());
    record.registry(registry.name(), kind);
    record.reference(route.repository().map(ToString::to_string), reference(&route));
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // Only `/v2/` is for pushes; a registry's other pages and its token service take POST for other reasons.
    let pushes = changes(request.method()) && kind != Kind::Token && request.uri().path().starts_with("/v2");
    if pushes && registry.is_at(authority) {
        return push(proxy, policy, &registry, authority, route, request, record).await;
    }
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let pull = |repository| Pull {
        proxy: proxy.clone(),
        upstream: policy.upstream.clone(),
        registry: registry.clone(),
        authority: authority.clone(),
        repository,
        method,
        headers,
        client,
    };
    let pulling = async {
        match route {
            Route::Ping if reads => ping::answer(proxy, policy, &registry, authority, request).await,
            Route::Blob(repository, digest) if reads => pull(repository).blob(digest).await,
            Route::Manifest(repository, Reference::Digest(digest)) if reads => pull(repository).manifest(digest).await,
            Route::Manifest(repository, Reference::Tag(tag)) if reads => pull(repository).tag(tag).await,
            _ => {
                let endpoint = endpoint(policy, &registry, authority, request.uri().path());
                Pulled::bypass(forward::pass(proxy, policy, &registry, &endpoint, kind, request).await)
            }
        }
    };
    // Whoever reads has an answer within what clients wait; what was begun goes on behind it. Another method may
    // take its time.
    let pulled = if reads {
        let answered = tokio::time::timeout(PATIENCE, pulling).await;
        answered.unwrap_or_else(|_| Pulled::failure(&respond::no_answer()))
    } else {
        pulling.await
    };
    mark(pulled, record)
}

fn mark(pulled: Pulled, record: &mut Record) -> Response<Body> {
    let Pulled { mut response, outcome, stored, age } = pulled;
    record.outcome(outcome);
    let failed = response.status().is_client_error() || response.status().is_server_error();
    if !failed || outcome != Outcome::Miss {
        respond::mark(response.headers_mut(), outcome, stored, age);
    } else if let Ok(value) =
        http::HeaderValue::from_str(&format!("pullthrough; fwd=uri-miss; fwd-status={}", response.status().as_u16()))
    {
        response.headers_mut().insert(respond::CACHE_STATUS, value);
    }
    response
}

/// A push or delete: refused, or streamed through; what the cache believed of its target is forgotten.
async fn push(
    proxy: &Arc<Proxy>,
    policy: &Policy,
    registry: &Arc<Registry>,
    authority: &Authority,
    route: Route,
    request: Request<Incoming>,
    record: &mut Record,
) -> Response<Body> {
    record.outcome(Outcome::Bypass);
    if registry.push() == Push::Deny {
        return respond::no_push(registry.name());
    }
    let endpoint = endpoint(policy, registry, authority, request.uri().path());
    let mut response = forward::pass(proxy, policy, registry, &endpoint, Kind::Upload, request).await;
    if response.status().is_success() {
        proxy.cache.forget_missing();
        if let Route::Manifest(repository, Reference::Tag(tag)) = route {
            proxy.cache.forget_tag(&Place { registry: registry.origin(authority), repository }, &tag);
        }
    }
    respond::mark(response.headers_mut(), Outcome::Bypass, false, None);
    response
}

/// Where what is not pulled goes: under `/v2/` to the registry, else to the very host that was asked, which may be
/// a token service, or an alias with pages of its own.
fn endpoint(policy: &Policy, registry: &Registry, authority: &Authority, path: &str) -> Endpoint {
    let deciding = registry.deciding_endpoints(authority);
    if registry.is_at(authority)
        && path.starts_with("/v2")
        && let Some(endpoint) = policy.upstream.order(&deciding).first()
    {
        return (*endpoint).clone();
    }
    let asked = deciding.into_iter().find(|endpoint| endpoint.authority() == authority);
    asked.unwrap_or_else(|| Endpoint::of_host(authority))
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A token service on the registry's own host is known by the paths that registries use for it.
fn kind(registry: &Registry, authority: &Authority, route: &Route, path: &str) -> Kind {
    const TOKEN_PATHS: [&str; 7] =
        ["/token", "/v2/token", "/v2/auth", "/oauth2/token", "/oauth2/exchange", "/proxy_auth", "/jwt/auth"];
    if registry.has_token_host(authority) && !registry.is_at(authority) || TOKEN_PATHS.contains(&path) {
        return Kind::Token;
    }
    Kind::from(route)
}

fn reference(route: &Route) -> Option<String> {
    match route {
        Route::Manifest(_, reference) => Some(reference.to_string()),
        Route::Blob(_, digest) | Route::Referrers(_, digest) => Some(digest.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, host: Option<&str>) -> Request<()> {
        let mut builder = Request::builder().uri(uri);
        if let Some(host) = host {
            builder = builder.header(HOST, host);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn a_request_must_name_the_host_that_connect_named() {
        let authority = Authority::parse("quay.io", 443).unwrap();
        let table = [
            ("/v2/", Some("quay.io"), true),
            ("/v2/", Some("QUAY.io:443"), true),
            ("https://quay.io/v2/", None, true),
            ("https://quay.io/v2/", Some("quay.io"), true),
            ("/v2/", None, false),
            ("/v2/", Some("evil.example"), false),
            ("/v2/", Some("quay.io:8443"), false),
            ("https://evil.example/v2/", Some("quay.io"), false),
            ("https://quay.io/v2/", Some("evil.example"), false),
        ];
        for (uri, host, expected) in table {
            assert_eq!(names(&request(uri, host), &authority), expected, "{uri} {host:?}");
        }
    }
}
