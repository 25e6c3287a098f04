//! Routes one request inside an intercepted connection, once its form, its host and the rules allow it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;

use super::detours::DetourCheck;
use super::endpoint::endpoint;
use super::lists::ListQuery;
use super::push;
use super::read::read;
use super::translated::answer::{MirrorAnswer, is_to_translate};
use super::translated::listed;
use super::translated::place::AskedPlace;
use super::translated::upload::{UploadName, Uploads};
use crate::oci::{Authority, Code, Route};
use crate::proxy::auth::token_service;
use crate::proxy::clients::clearance::{self, Clearance};
use crate::proxy::clients::refused::RefusedRequest;
use crate::proxy::clients::{Client, Judgement};
use crate::proxy::context::Context;
use crate::proxy::policy::Policy;
use crate::proxy::pull::pull::PATIENCE;
use crate::proxy::record::Record;
use crate::proxy::registry::config::Push;
use crate::proxy::registry::registry::Registry;
use crate::proxy::respond::{Failure, Rendered};
use crate::proxy::served::Served;
use crate::proxy::site::Site;
use crate::proxy::state::Proxy;
use crate::proxy::tokens::local::LOCAL_TOKEN_PATH;
use crate::proxy::{forward, respond};
use crate::telemetry::Kind;
use crate::wire::{self, Body, Received};

/// Servers that speak HTTP/2 may end a connection, which other requests share, over a longer target.
const TARGET_BYTES: usize = 4 << 10;
/// Says which registry answered a request with `ns` (distribution-spec, "Registry Proxying").
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
/// A request for a token may list many scopes.
const TOKEN_TARGET_BYTES: usize = 8 << 10;

/// Answers a request for what `site` is.
pub(crate) async fn answer(
    proxy: Arc<Proxy>,
    client: Client,
    site: Arc<Site>,
    request: Request<Received>,
) -> Response<Body> {
    let (rendered, record) = answered(&proxy, &client, &site, request).await;
    record.attach(rendered).response
}

/// The same, before its record follows it to its end. The audit log has been told of it.
pub(crate) async fn answered(
    proxy: &Arc<Proxy>,
    client: &Client,
    site: &Site,
    request: Request<Received>,
) -> (Rendered, Record) {
    let policy = proxy.policy();
    let asked = RefusedRequest::of(&policy.clients, client.from.address, &request);
    let mut record = Record::new(&proxy.metrics, client.from, &request, site.named_host(), "other");
    record.user(client.user.as_ref());
    let mut rendered = judged(proxy, &policy, client, site, request, &mut record).await;
    if let (Some(asked), Some(reason)) = (asked, rendered.declined.take()) {
        let registry = policy.registry(&site.authority).map(|registry| registry.name().clone());
        asked.note(&policy.clients, client.user.clone(), registry, rendered.response.status(), &reason);
    }
    (rendered, record)
}

async fn judged(
    proxy: &Arc<Proxy>,
    policy: &Policy,
    client: &Client,
    site: &Site,
    mut request: Request<Received>,
    record: &mut Record,
) -> Rendered {
    let authority = &site.authority;
    if let Some(failure) = malformed(&mut request).await {
        record.verdict("refuse", failure.status.as_u16());
        return failure.closing().render();
    }
    let registry = policy.registry(authority).filter(|_| names(&request, authority));
    let Some(registry) = registry.filter(|_| policy.admits(client.from.address)) else {
        record.verdict("refuse", 421);
        return respond::misdirected().render();
    };
    if proxy.pseudonym.is_in(request.headers()) {
        record.verdict("refuse", 508);
        return respond::looped().render();
    }
    let (version, method) = (request.version(), request.method().clone());
    let clients = &policy.clients;
    let mut rendered = match clearance::of(&registry, client, authority, &request, clients) {
        Err(flaw) => {
            record.registry(registry.name(), Kind::Other);
            refused(record, &respond::ambiguous(&flaw.to_string()).told())
        }
        Ok(clearance) => match clearance.judge(&clients.rules) {
            Judgement::Denied(rule) => {
                record.registry(registry.name(), clearance.kind());
                record.detail(format!("refused by the rule {rule}"));
                clearance.note_refused(clients, request.uri(), Some(rule.clone()), StatusCode::FORBIDDEN);
                refused(record, &respond::no_entry(&rule).told())
            }
            Judgement::Allowed(rule) => {
                let asked = (&*registry, authority, request.uri());
                let checked = match clients.rules.is_empty() {
                    true => Ok(None),
                    false => Box::pin(DetourCheck::of(proxy, policy, &clearance, asked)).await,
                };
                let answered = match checked {
                    Ok(None) => dispatch(proxy, policy, &registry, site, &clearance, request, record).await,
                    Ok(Some(check)) => {
                        let asked = dispatch(proxy, policy, &registry, site, &clearance, request, record);
                        check.over(Box::pin(asked).await)
                    }
                    Err(failure) => {
                        record.registry(registry.name(), clearance.kind());
                        Err(failure)
                    }
                };
                let rendered = match answered {
                    Ok(served) => {
                        clearance.note_answer(clients, &served, rule);
                        served.render(record)
                    }
                    Err(failure) => {
                        clearance.note_answer(clients, &Served::failure(failure.clone()), rule);
                        refused(record, &failure)
                    }
                };
                match &site.naming {
                    Some(naming)
                        if is_to_translate(&rendered.response) || matches!(clearance.route(), Route::Tags(_)) =>
                    {
                        let target = target(proxy, site, &registry, &clearance).and_then(Result::ok);
                        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/v2/"));
                        let mac = |parts: &[&[u8]]| proxy.cache.mac(parts);
                        let uploads = Uploads { mac: &mac, registry: &registry.origin(authority) };
                        let (registry, route) = (&*registry, clearance.route());
                        let place = AskedPlace { uploads, naming, registry, authority, route, target: &target };
                        let has_logins = clients.logins.is_some();
                        let rendered = MirrorAnswer { place: &place, method: &method, has_logins }.translated(rendered);
                        Box::pin(listed::named(rendered, &place, &method)).await
                    }
                    _ => rendered,
                }
            }
        },
    };
    if let Some(Ok(echoed)) =
        site.naming.as_ref().and_then(|naming| Some(HeaderValue::from_str(naming.namespace.as_ref()?)))
    {
        rendered.response.headers_mut().insert(NAMESPACE, echoed);
    }
    wire::via(rendered.response.headers_mut(), version);
    rendered
}

/// The answer to a request that the proxy refuses before the cache or a registry is asked.
fn refused(record: &mut Record, failure: &Failure) -> Rendered {
    record.verdict("refuse", failure.status.as_u16());
    failure.render()
}

/// Why a request cannot be one to a registry: it has no host or two, is for a tunnel or about the server as a whole, or
/// reads and has a body, which nothing upstream would belong to.
pub(crate) async fn malformed(request: &mut Request<Received>) -> Option<Failure> {
    let bad =
        |message: &str| Some(Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, "http_request_error", message));
    if let Some(flaw) = wire::malformed(request) {
        return Some(respond::malformed(flaw));
    }
    if wire::has_long_field(request.headers()) {
        return Some(respond::oversized(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Some(respond::no_method("registries do not answer CONNECT or TRACE"));
    }
    if request.uri().path() == "*" {
        return bad("the request does not name a path");
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && !request.body().is_end_stream() && Box::pin(wire::is_unexpected(request)).await {
        return bad("a GET or HEAD must not have a body");
    }
    None
}

/// Whether the request is for the host that CONNECT named, over TLS. HTTP/2 names it in `:authority`, HTTP/1.1 in Host.
pub(crate) fn names<B>(request: &Request<B>, authority: &Authority) -> bool {
    let host = request.headers().get(HOST).map(|value| value.to_str().unwrap_or_default());
    let target = request.uri().authority().map(|authority| authority.as_str());
    let mut said = target.into_iter().chain(host).peekable();
    let is_by_tls = request.uri().scheme().is_none_or(|scheme| *scheme == Scheme::HTTPS);
    is_by_tls && said.peek().is_some() && said.all(|text| authority.is_written(text, 443))
}

/// Asks the cache or an upstream; `Err` where the proxy refuses before it does.
async fn dispatch(
    proxy: &Arc<Proxy>,
    policy: &Policy,
    registry: &Arc<Registry>,
    site: &Site,
    clearance: &Clearance,
    mut request: Request<Received>,
    record: &mut Record,
) -> Result<Served, Failure> {
    let (route, kind) = (clearance.route(), clearance.kind());
    record.registry(registry.name(), kind);
    record.reference(route.repository().cloned(), clearance.reference());
    let context = Context::new(proxy, policy, registry, site, clearance.client(), request.headers_mut());
    let served = routed(&context, site, policy, clearance, request).await;
    if let Some(asked) = context.was_asked() {
        record.asked(asked.clone());
    }
    served
}

/// Answers from the cache or an upstream, by the route.
async fn routed(
    context: &Context<'_>,
    site: &Site,
    policy: &Policy,
    clearance: &Clearance,
    mut request: Request<Received>,
) -> Result<Served, Failure> {
    let (route, kind) = (clearance.route(), clearance.kind());
    let registry = context.registry;
    let is_registry = registry.is_at(context.authority);
    let is_own_token_service = is_registry && matches!(route, Route::Other(path) if path.as_str() == LOCAL_TOKEN_PATH);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && is_registry && matches!(route, Route::Ping | Route::Blob(..) | Route::Manifest(..)) {
        let served = read(context, route, request.method(), request.headers()).await;
        look_for_shared_address(context, route, &request, served.status());
        return Ok(served);
    }
    if clearance.is_push() && registry.push() == Push::Deny {
        clearance.note_refused(&policy.clients, request.uri(), None, StatusCode::METHOD_NOT_ALLOWED);
        return Err(respond::no_push(registry.name()).told());
    }
    // The request is sent on as it was judged.
    let Some(target) = target(context.proxy, site, registry, clearance) else {
        return Err(respond::ambiguous("the path or the query cannot be forwarded"));
    };
    let target = target?;
    let most = if kind == Kind::Token { TOKEN_TARGET_BYTES } else { TARGET_BYTES };
    if target.as_str().len() > most && !is_own_token_service {
        clearance.note_refused(&policy.clients, request.uri(), None, StatusCode::URI_TOO_LONG);
        return Err(respond::oversized(StatusCode::URI_TOO_LONG));
    }
    *request.uri_mut() = target.into();
    wire::without_overrides(request.headers_mut());
    Ok(if is_own_token_service {
        Box::pin(token_service::answer(context, request)).await
    } else if clearance.is_push() {
        Box::pin(push::answer(context, clearance, request)).await
    } else {
        Box::pin(pass_on(context, policy, clearance, request)).await
    })
}

/// Path and query as they are sent upstream: as they were judged, or the path of an upload that a mirror's client comes back
/// to.
fn target(
    proxy: &Proxy,
    site: &Site,
    registry: &Registry,
    clearance: &Clearance,
) -> Option<Result<PathAndQuery, Failure>> {
    let target = clearance.target()?;
    let (Some(_), Route::Upload(repository, Some(name))) = (&site.naming, clearance.route()) else {
        return Some(Ok(target));
    };
    let mac = |parts: &[&[u8]]| proxy.cache.mac(parts);
    let uploads = Uploads { mac: &mac, registry: &registry.origin(&site.authority) };
    Some(match uploads.opened(repository, name) {
        UploadName::Own => Ok(target),
        UploadName::Forged => Err(respond::no_such_upload()),
        UploadName::Sealed(path) => {
            let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
            format!("{path}{query}").parse().map_err(|_| respond::no_such_upload())
        }
    })
}

/// Forwards reads that are not cached, and requests to a token service.
async fn pass_on(
    context: &Context<'_>,
    policy: &Policy,
    clearance: &Clearance,
    mut request: Request<Received>,
) -> Served {
    let (route, kind) = (clearance.route(), clearance.kind());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // A token service may stand before a registry of its own: that one is not this one, and nothing of it is kept.
    let is_registry = context.registry.is_at(context.authority);
    let endpoint = endpoint(context, route);
    match route {
        _ if kind == Kind::Token
            && matches!(*request.method(), Method::GET | Method::POST)
            && token_service::is_for_token(context, &endpoint, &request) =>
        {
            let relayed =
                tokio::time::timeout(PATIENCE, Box::pin(token_service::relay(context, &endpoint, request))).await;
            relayed.unwrap_or_else(|_| Served::failure(respond::no_answer()))
        }
        Route::Tags(repository) | Route::Referrers(repository, _) if reads && is_registry => {
            let query = ListQuery { context, repository, endpoint: &endpoint, kind, patience: PATIENCE };
            Box::pin(query.answer(request)).await
        }
        _ if wire::ends_here(&mut request) => Served::failure(respond::no_further()),
        _ => {
            // A page that is neither of the protocol nor a token says nothing of the registry.
            let is_protocol = is_registry && route.is_of_protocol();
            let upstream = if is_protocol { &context.upstream } else { &policy.upstream };
            let asked = forward::pass(context, upstream, &endpoint, kind, request);
            let asked = forward::within_share(context.proxy, context.client, asked);
            // A read is answered within the time that clients wait. Another method may take longer.
            let patience = if reads { PATIENCE } else { Duration::MAX };
            match tokio::time::timeout(patience, asked).await {
                Ok(answer) => Served::passed(answer),
                Err(_) => Served::failure(respond::no_answer()),
            }
        }
    }
}

/// Shows an answered pull to the check for shared addresses. Where clients need a password, that tells them apart.
fn look_for_shared_address<B>(context: &Context<'_>, route: &Route, request: &Request<B>, status: StatusCode) {
    if status.is_success() && context.proxy.policy().clients.logins.is_none() {
        context.proxy.shared_address.look(context.client, route, request);
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
            ("http://quay.io/v2/", Some("quay.io"), false),
            ("ftp://quay.io/v2/", Some("quay.io"), false),
            ("https://quay.io/v2/", Some("evil.example"), false),
        ];
        for (uri, host, expected) in table {
            assert_eq!(names(&request(uri, host), &authority), expected, "{uri} {host:?}");
        }
    }
}
