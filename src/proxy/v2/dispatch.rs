//! One request inside an intercepted connection: its form and its host are checked, it is routed, its answer marked.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST, HeaderMap};
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{listing, push};
use crate::oci::{Authority, Code, Reference, Route};
use crate::proxy::auth::{guesses, ping, token_service};
use crate::proxy::clients::clearance::{self, Clearance};
use crate::proxy::clients::refused::Asked;
use crate::proxy::clients::{Client, Judgement};
use crate::proxy::context::Context;
use crate::proxy::policy::Policy;
use crate::proxy::pull::pull::{PATIENCE, Pull, Pulled};
use crate::proxy::record::Record;
use crate::proxy::registry::config::Push;
use crate::proxy::registry::registry::Registry;
use crate::proxy::respond::{Away, Failure};
use crate::proxy::state::Proxy;
use crate::proxy::tokens::local::LOCAL_TOKEN_PATH;
use crate::proxy::{forward, respond};
use crate::telemetry::{Kind, Outcome};
use crate::upstream::Endpoint;
use crate::wire::{self, Body};

/// Servers that speak HTTP/2 may end a connection, which others share, over a longer target.
const TARGET_BYTES: usize = 4 << 10;
/// A request for a token may list many scopes.
const TOKEN_TARGET_BYTES: usize = 8 << 10;

/// Answers a request on a connection that was opened to `authority`.
pub(crate) async fn answer(
    proxy: Arc<Proxy>,
    who: Client,
    authority: Authority,
    request: Request<Incoming>,
) -> Response<Body> {
    let policy = proxy.policy();
    let asked = Asked::of(&policy.clients, who.address, &request);
    let mut response = judged(&proxy, &policy, &who, &authority, request).await;
    if let Some(asked) = asked {
        let registry = policy.registry(&authority).map(|registry| registry.name().clone());
        asked.note(&policy.clients, who.user, registry, &mut response);
    }
    response
}

async fn judged(
    proxy: &Arc<Proxy>,
    policy: &Policy,
    who: &Client,
    authority: &Authority,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let mut record = Record::new(&proxy.metrics, who.address, request.method(), authority.short(443), "other");
    if let Some(failure) = malformed(&mut request).await {
        record.verdict("refuse", failure.status.as_u16());
        record.detail(failure.message.clone());
        return record.attach(respond::last_of_connection(failure.respond()));
    }
    let registry = policy.registry(authority).filter(|_| names(&request, authority));
    let Some(registry) = registry.filter(|_| policy.admits(who.address)) else {
        record.verdict("refuse", 421);
        return record.attach(respond::misdirected());
    };
    if proxy.pseudonym.is_in(request.headers()) {
        record.verdict("refuse", 508);
        return record.attach(respond::looped());
    }
    let version = request.version();
    let clients = &policy.clients;
    let mut response = match clearance::of(&registry, who, authority, &request, clients) {
        Err(flaw) => {
            record.registry(registry.name(), Kind::Other);
            let failure = respond::ambiguous(&flaw.to_string());
            record.detail(failure.message.clone());
            respond::told_of(failure.respond())
        }
        Ok(errand) => match errand.judge(&clients.rules) {
            Judgement::Denied(rule) => {
                record.registry(registry.name(), errand.kind());
                record.detail(format!("refused by the rule {rule}"));
                errand.note_refused(clients, request.uri(), Some(rule.clone()), StatusCode::FORBIDDEN);
                respond::told_of(respond::no_entry(&rule))
            }
            Judgement::Allowed(rule) => {
                let response = dispatch(proxy, policy, registry, authority, &errand, request, &mut record).await;
                errand.note_answer(clients, &response, rule);
                response
            }
        },
    };
    wire::via(response.headers_mut(), version);
    record.attach(response)
}

/// What no request to a registry may be: without a host or with two, a question for a tunnel or about the server as a
/// whole, or one that reads and brings a body. The last would be passed on as the body of nothing.
pub(crate) async fn malformed(request: &mut Request<Incoming>) -> Option<Failure> {
    let bad =
        |message: &str| Some(Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, "http_request_error", message));
    if let Some(flaw) = wire::malformed(request) {
        return Some(respond::malformed(flaw));
    }
    if wire::has_long_field(request.headers()) {
        return Some(respond::oversized(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Some(respond::no_method("a registry answers neither CONNECT nor TRACE"));
    }
    if request.uri().path() == "*" {
        return bad("the request names no path");
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && !request.body().is_end_stream() && Box::pin(wire::is_unexpected(request)).await {
        return bad("a request that reads brings no body");
    }
    None
}

/// Whether the request is for the host that CONNECT named, by TLS. HTTP/2 says it in `:authority`, HTTP/1.1 in Host.
pub(crate) fn names<B>(request: &Request<B>, authority: &Authority) -> bool {
    let host = request.headers().get(HOST).map(|value| value.to_str().unwrap_or_default());
    let target = request.uri().authority().map(|authority| authority.as_str());
    let mut said = target.into_iter().chain(host).peekable();
    let is_by_tls = request.uri().scheme().is_none_or(|scheme| *scheme == Scheme::HTTPS);
    is_by_tls && said.peek().is_some() && said.all(|text| authority.is_written(text, 443))
}

async fn dispatch(
    proxy: &Arc<Proxy>,
    policy: &Policy,
    registry: Arc<Registry>,
    authority: &Authority,
    errand: &Clearance,
    mut request: Request<Incoming>,
    record: &mut Record,
) -> Response<Body> {
    let is_registry = registry.is_at(authority);
    let (route, kind) = (errand.route(), errand.kind());
    let is_own_realm = is_registry && matches!(route, Route::Other(path) if path.as_str() == LOCAL_TOKEN_PATH);
    record.registry(registry.name(), kind);
    record.reference(route.repository().cloned(), errand.reference());
    let context = Context::new(proxy, policy, &registry, authority, errand.client(), request.headers_mut());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && is_registry && matches!(route, Route::Ping | Route::Blob(..) | Route::Manifest(..)) {
        let pulled = read(&context, route, request.method(), request.headers()).await;
        look_for_shared_address(&context, route, &request, pulled.response.status());
        return mark(pulled, record);
    }
    if errand.is_push() && registry.push() == Push::Deny {
        record.outcome(Outcome::Bypass);
        errand.note_refused(&policy.clients, request.uri(), None, StatusCode::METHOD_NOT_ALLOWED);
        return respond::told_of(respond::no_push(registry.name()));
    }
    // What goes on is what was judged.
    let Some(target) = errand.target() else {
        return respond::ambiguous("the path or the query cannot be sent on").respond();
    };
    let most = if kind == Kind::Token { TOKEN_TARGET_BYTES } else { TARGET_BYTES };
    if target.as_str().len() > most && !is_own_realm {
        errand.note_refused(&policy.clients, request.uri(), None, StatusCode::URI_TOO_LONG);
        return respond::oversized(StatusCode::URI_TOO_LONG).respond();
    }
    *request.uri_mut() = target.into();
    wire::without_overrides(request.headers_mut());
    let pulled = if is_own_realm {
        Box::pin(token_service::answer(&context, request)).await
    } else if errand.is_push() {
        record.outcome(Outcome::Bypass);
        return Box::pin(push::answer(&context, errand, request)).await;
    } else {
        Box::pin(pass_on(&context, policy, errand, request)).await
    };
    mark(pulled, record)
}

/// What is read, or asked of a token service, and not cached.
async fn pass_on(context: &Context<'_>, policy: &Policy, errand: &Clearance, mut request: Request<Incoming>) -> Pulled {
    let (route, kind) = (errand.route(), errand.kind());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // A token service may stand before a registry of its own: that one is not this one, and nothing of it is kept.
    let is_registry = context.registry.is_at(context.authority);
    let endpoint = endpoint(context, route);
    match route {
        _ if kind == Kind::Token
            && matches!(*request.method(), Method::GET | Method::POST)
            && token_service::is_for_token(context, &endpoint, &request) =>
        {
            let leg = tokio::time::timeout(PATIENCE, token_service::leg(context, &endpoint, request)).await;
            leg.unwrap_or_else(|_| Pulled::failure(&respond::no_answer()))
        }
        Route::Tags(repository) | Route::Referrers(repository, _) if reads && is_registry => {
            let asked = listing::pass(context, repository, &endpoint, kind, request);
            let asked = forward::within_share(context.proxy, context.client, asked);
            let answered = tokio::time::timeout(PATIENCE, asked).await;
            answered.map_or_else(|_| Pulled::failure(&respond::no_answer()), Pulled::bypass)
        }
        _ if wire::ends_here(&mut request) => Pulled::failure(&respond::no_further()),
        _ => {
            // A page that is neither of the protocol nor a token says nothing of the registry.
            let is_protocol = is_registry && route.is_of_protocol();
            let upstream = if is_protocol { &context.upstream } else { &policy.upstream };
            let asked = forward::pass(context.proxy, upstream, context.registry, &endpoint, kind, request);
            let asked = forward::within_share(context.proxy, context.client, asked);
            // Whoever reads has an answer within what clients wait. Another method may take its time.
            let patience = if reads { PATIENCE } else { Duration::MAX };
            match tokio::time::timeout(patience, asked).await {
                Ok(response) => Pulled::bypass(response),
                Err(_) => Pulled::failure(&respond::no_answer()),
            }
        }
    }
}

/// What can be answered from the cache: by the registry's word while it is there, without it when it is away.
/// Where that turns out on the way, what can be answered now is. What was begun goes on behind it.
async fn read(context: &Context<'_>, route: &Route, method: &Method, headers: &HeaderMap) -> Pulled {
    let until = Instant::now() + PATIENCE;
    let once = || async {
        let answered = tokio::time::timeout_at(until, content(context, route, method, headers)).await;
        answered.unwrap_or_else(|_| Pulled::failure(&respond::no_answer()))
    };
    let (was_open, was_gone) = (context.outage.is_open(), context.outage.is_home_away());
    let mut first = pin!(once());
    let pulled = tokio::select! {
        biased; // what is cached is there at once
        pulled = first.as_mut() => Some(pulled),
        () = context.outage.opened(), if !was_open => None,
        () = context.outage.gone(), if was_open && !was_gone => None,
    };
    // Whoever finds out that it cannot be reached is told what those are who come after it.
    if pulled.as_ref().is_some_and(|pulled| pulled.response.status().is_server_error()) {
        context.outage.settled().await;
    }
    let is_news = (!was_open && context.outage.is_open()) || (!was_gone && context.outage.is_home_away());
    let has_failed = |pulled: &Pulled| is_news && pulled.response.status().is_server_error();
    let pulled = match pulled.filter(|pulled| !has_failed(pulled)) {
        Some(pulled) => pulled,
        None => Box::pin(once()).await,
    };
    // Whoever carries nothing may have a right that a grant remembers, and is told how to show it: except where the
    // ping said that nobody needs credentials, since a client believes that until its end. Who carries a token of
    // the registry's would not authenticate again in mid-pull, and asks again after a 503.
    let carries = context.holder.is_some() || headers.contains_key(AUTHORIZATION);
    if is_away(&pulled) && context.outage.is_open() && !carries && !ping::is_open_to_all(context).await {
        return Pulled::bypass(token_service::challenge(context, route.repository()));
    }
    pulled
}

fn is_away(pulled: &Pulled) -> bool {
    pulled.response.extensions().get::<Away>().is_some()
}

async fn content(context: &Context<'_>, route: &Route, method: &Method, headers: &HeaderMap) -> Pulled {
    if context.outage.is_open()
        && let Some(repository) = route.repository()
        && let Err(busy) = Box::pin(guesses::admit_reader(context, repository, headers)).await
    {
        return Pulled::failure(&busy);
    }
    let pull = |repository| Pull { context, repository, method, headers };
    match route {
        Route::Blob(repository, digest) => pull(repository).blob(*digest).await,
        Route::Manifest(repository, Reference::Digest(digest)) => pull(repository).manifest(*digest).await,
        Route::Manifest(repository, Reference::Tag(tag)) => pull(repository).tag(tag).await,
        _ => Box::pin(ping::answer(context, method, headers)).await,
    }
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

/// Where what is not pulled goes: under `/v2/` to the registry, else to the very host that was asked, which may be
/// a token service, or an alias with pages of its own.
pub(crate) fn endpoint(context: &Context<'_>, route: &Route) -> Endpoint {
    let Context { registry, authority, .. } = context;
    let deciding = registry.deciding_endpoints(authority);
    if registry.is_at(authority)
        && is_under_v2(route)
        && let Some(endpoint) = context.upstream.order(&deciding).first()
    {
        return (*endpoint).clone();
    }
    let asked = deciding.iter().find(|endpoint| endpoint.authority() == *authority);
    asked.cloned().unwrap_or_else(|| Endpoint::of_host(authority))
}

fn is_under_v2(route: &Route) -> bool {
    !matches!(route, Route::Other(path) if !path.as_str().starts_with("/v2/"))
}

/// Shows a pull that was answered to whoever tells clients behind one address apart. Where each has to give a
/// password they are told apart by it.
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
