//! Answers one request under `/v2/` that came to the proxy itself.

use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};

use super::catalog::{self, CatalogQuestion};
use super::group::{self, MemberAnswer};
use super::inner;
use crate::host::LogThrottle;
use crate::oci::{Authority, Code, Digest, Query, Route};
use crate::proxy::clients::Client;
use crate::proxy::naming::memory::first;
use crate::proxy::naming::resolve::{AskedName, MirrorTargetRoute, Resolved, Unnamed};
use crate::proxy::policy::Policy;
use crate::proxy::record::Record;
use crate::proxy::registry::registry::Whose;
use crate::proxy::respond::{self, Failure, Rendered};
use crate::proxy::site::{Naming, Site};
use crate::proxy::state::Proxy;
use crate::proxy::tokens::local::LOCAL_TOKEN_PATH;
use crate::proxy::v2::dispatch;
use crate::wire::{Body, Ended, Received};

/// Whether a request for the proxy itself is for a registry behind it.
pub(crate) fn is_for_registry<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    path == "/v2" || path.starts_with("/v2/")
}

/// A request for a registry, ready to be asked of it.
struct Asking<'a> {
    proxy: &'a Arc<Proxy>,
    policy: &'a Policy,
    client: &'a Client,
    resolved: Resolved,
    /// Without `ns`.
    query: Query,
    /// The host that the client calls the mirror.
    host: Authority,
    base: Arc<str>,
}

/// Answers it. `scheme` is that of the connection, https or http.
pub(crate) async fn answer(
    proxy: &Arc<Proxy>,
    client: &Client,
    scheme: &'static str,
    request: Request<Received>,
) -> Rendered {
    let scheme = inner::clients_scheme(scheme, request.headers());
    let policy = proxy.policy();
    if catalog::is_asked(&policy, &request) {
        return Box::pin(names(proxy, &policy, client, scheme, request)).await;
    }
    match Asking::of(proxy, &policy, client, scheme, &request) {
        Err(failure) => turned_away(proxy, client, &request, &failure),
        Ok(asking) => asking.answer(request).await,
    }
}

fn failure(unnamed: Unnamed) -> Failure {
    let message = unnamed.to_string();
    match unnamed {
        Unnamed::Path(_) | Unnamed::Query(_) | Unnamed::Namespace => respond::ambiguous(&message),
        Unnamed::Host(_) => {
            let status = StatusCode::MISDIRECTED_REQUEST;
            Failure::new(status, Code::Denied, "http_request_denied", message)
        }
        Unnamed::Registry(_) | Unnamed::Nothing | Unnamed::NoDefault => {
            Failure::new(StatusCode::NOT_FOUND, Code::NameUnknown, "http_request_error", message)
        }
    }
}

/// Answers a request for the names of all repositories, whichever registries they are of.
async fn names(
    proxy: &Arc<Proxy>,
    policy: &Policy,
    client: &Client,
    scheme: &'static str,
    mut request: Request<Received>,
) -> Rendered {
    if let Some(failure) = dispatch::malformed(&mut request).await {
        return turned_away(proxy, client, &request, &failure.closing());
    }
    let read = asked_host(scheme, &request).and_then(|named| Ok((named, query(&request)?)));
    let ((host, base), query) = match read {
        Ok(read) => read,
        Err(failure) => return turned_away(proxy, client, &request, &failure),
    };
    let asked = AskedName { host: &host, path: request.uri().path(), query: &query };
    let resolved = match policy.mirror.names.resolve(&policy.registries, asked) {
        Err(unnamed) if !matches!(unnamed, Unnamed::Nothing | Unnamed::NoDefault) => {
            return turned_away(proxy, client, &request, &failure(unnamed));
        }
        resolved => resolved.ok(),
    };
    let resolved = resolved.as_ref();
    CatalogQuestion { proxy, policy, client, host: &host, base, query: &query, resolved }.answer(&request).await
}

/// The host that the client calls the mirror, and the beginning of its URLs.
fn asked_host(scheme: &str, request: &Request<Received>) -> Result<(Authority, Arc<str>), Failure> {
    let implied = if scheme == "https" { 443 } else { 80 };
    let host = inner::host_of(request, implied)
        .ok_or_else(|| respond::ambiguous("the request does not name the mirror's host (Host)"))?;
    let base = format!("{scheme}://{}", host.short(implied)).into();
    Ok((host, base))
}

fn query(request: &Request<Received>) -> Result<Query, Failure> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    query.map_err(|flaw| respond::ambiguous(&flaw.to_string()))
}

/// Refuses a request that is for no registry, and records it.
fn turned_away<B>(proxy: &Proxy, client: &Client, request: &Request<B>, refusal: &Failure) -> Rendered {
    let host = inner::host_of(request, 80).map_or_else(|| "-".into(), |host| host.short(80));
    let mut record = Record::new(&proxy.metrics, client.from, request, host, "mirror");
    record.user(client.user.as_ref());
    record.path(request.uri().path());
    record.judged("refuse", refusal.status.as_u16());
    record.attach(refusal.render())
}

impl<'a> Asking<'a> {
    fn of(
        proxy: &'a Arc<Proxy>,
        policy: &'a Policy,
        client: &'a Client,
        scheme: &str,
        request: &Request<Received>,
    ) -> Result<Self, Failure> {
        let (host, base) = asked_host(scheme, request)?;
        let query = query(request)?;
        let asked = AskedName { host: &host, path: request.uri().path(), query: &query };
        let resolved = policy.mirror.names.resolve(&policy.registries, asked).map_err(failure)?;
        Ok(Self { proxy, policy, client, resolved, query: query.without("ns"), host, base })
    }

    async fn answer(self, mut request: Request<Received>) -> Rendered {
        let Resolved { targets, group, .. } = &self.resolved;
        if group.is_some() {
            if let Some(failure) = dispatch::malformed(&mut request).await {
                return turned_away(self.proxy, self.client, &request, &failure.closing());
            }
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            let is_token = request.uri().path() == LOCAL_TOKEN_PATH;
            if !reads && !is_token {
                let refusal =
                    respond::no_method("this name stands for several registries: push to one of them by its own name");
                return turned_away(self.proxy, self.client, &request, &refusal);
            }
            let is_about_all = is_token || targets[0].route == Route::Ping;
            if reads && !is_about_all {
                return self.of_group(request).await;
            }
        }
        let target = &targets[0];
        let (parts, body) = request.into_parts();
        match self.ask(target, parts, body).await {
            Ok((rendered, record)) => record.attach(rendered),
            Err(failure) => failure.render(),
        }
    }

    /// Asks the members in order.
    async fn of_group(self, request: Request<Received>) -> Rendered {
        let targets = &self.resolved.targets;
        let route = &targets[0].route;
        let remembered = self.remembered(route);
        let in_order = first(targets.iter().collect(), |target| remembered.as_ref() == Some(&target.authority));
        let is_moved = in_order[0].authority != targets[0].authority;
        let (began, (parts, _)) = (Instant::now(), request.into_parts());
        let (mut kept, mut failed) = (None, None);
        for (at, target) in in_order.into_iter().enumerate() {
            let (rendered, mut record) = match self.ask(target, parts.clone(), Received::empty()).await {
                Ok(answered) => answered,
                Err(failure) => return failure.render(),
            };
            record.began(began);
            let rendered = match group::heard(route, rendered, self.is_away(target)).await {
                MemberAnswer::Next(rendered) => {
                    tracing::debug!(member = %target.authority, status = %rendered.response.status(), "asks the next registry of the group");
                    record.set_aside(); // from here on, a client that leaves is the next one's
                    kept = Some(group::better(kept, (rendered, record), |(rendered, _)| rendered.response.status()));
                    continue;
                }
                MemberAnswer::Doubted(status) => self.doubted(target, status),
                MemberAnswer::Ends(rendered) => rendered,
            };
            // One that was asked out of turn hides nothing that those above it have.
            if at == 0 && is_moved && group::is_fault(rendered.response.status()) {
                let (rendered, _) = group::read_off(rendered).await;
                record.set_aside();
                failed = Some((rendered, record));
                continue;
            }
            let response = self.noted(target, route, &parts.method, rendered.response);
            return record.attach(Rendered { response, ..rendered });
        }
        match failed.or(kept) {
            Some((rendered, record)) => record.taken_back().attach(rendered),
            None => failure(Unnamed::Nothing).render(),
        }
    }

    /// The member that had what is asked for by its digest.
    fn remembered(&self, route: &Route) -> Option<Authority> {
        let Resolved { group, written, .. } = &self.resolved;
        self.proxy.group_memory.member(group.as_ref()?, written.as_ref()?, &group::digest(route)?)
    }

    /// Remembers which member had a content, once it has come whole.
    fn noted(
        &self,
        target: &MirrorTargetRoute,
        route: &Route,
        method: &Method,
        response: Response<Body>,
    ) -> Response<Body> {
        let is_whole_content =
            *method == Method::GET && response.status() == StatusCode::OK && group::is_content(route);
        let digest = group::digest(route).or_else(|| said_digest(&response)).filter(|_| is_whole_content);
        let (Some(digest), Resolved { group: Some(group), written: Some(written), .. }) = (digest, &self.resolved)
        else {
            return response;
        };
        let memory = self.proxy.group_memory.clone();
        if memory.knows(group, written, digest, &target.authority) {
            return response;
        }
        let (group, written, member) = (group.clone(), written.clone(), target.authority.clone());
        let tell = move |is_whole| match is_whole {
            true => memory.note(&group, &written, digest, &member),
            false => memory.forget(&group, &written, digest, &member),
        };
        let length = response.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        response.map(|body| Body::wrap(Ended::new(body, length, tell)))
    }

    fn doubted(&self, target: &MirrorTargetRoute, status: StatusCode) -> Rendered {
        static SAID: LogThrottle = LogThrottle::new(); // each request may meet it
        let (registry, group) = (target.authority.short(443), self.resolved.group.as_deref());
        if SAID.is_due() {
            tracing::warn!(
                %registry, group, status = status.as_u16(),
                "a server answers in a registry's place; no other registry of the group is asked for its names; similar answers are not logged for a minute"
            );
        }
        group::doubted(&target.authority, status).render()
    }

    /// The answer of `target` to the request that it gets, and the record that is to follow it.
    ///
    /// # Errors
    /// There is no such request.
    async fn ask(
        &self,
        target: &MirrorTargetRoute,
        parts: http::request::Parts,
        body: Received,
    ) -> Result<(Rendered, Record), Failure> {
        let takes_credentials = self.takes_credentials(target);
        let own = |from: &str| self.own_name(target, from);
        let query = match target.route {
            Route::Upload(..) => inner::mounting(&self.query, own),
            _ => self.query.clone(),
        };
        let request = inner::request(parts, body, target, &query, takes_credentials);
        let request = request.map_err(|error| respond::ambiguous(&error.to_string()))?;
        let naming = Naming {
            base: self.base.clone(),
            repository: self.resolved.written.clone(),
            namespace: self.resolved.namespace.clone(),
            takes_credentials,
        };
        let site = Site { authority: target.authority.clone(), naming: Some(naming) };
        Ok(Box::pin(dispatch::answered(self.proxy, self.client, &site, request)).await)
    }

    /// The target's own name for what its client calls `repository`.
    fn own_name(&self, target: &MirrorTargetRoute, repository: &str) -> Option<String> {
        let names = &self.policy.mirror.names;
        let places = names.places(&self.policy.registries, &self.host, self.resolved.namespace.as_deref(), repository);
        places.into_iter().find(|(at, _)| *at == target.authority).map(|(_, name)| name.to_string())
    }

    /// Whether the client's credentials are the registry's own: the name stands for it alone, and needs no password of
    /// the mirror's.
    fn takes_credentials(&self, target: &MirrorTargetRoute) -> bool {
        let whose = || self.policy.registry(&target.authority);
        self.resolved.is_host_of_one
            && self.policy.clients.logins.is_none()
            && whose().is_some_and(|registry| matches!(registry.whose(), Whose::Client))
    }

    /// While it is, no answer of its own says that it has not what was asked for.
    fn is_away(&self, target: &MirrorTargetRoute) -> bool {
        let registry = self.policy.registry(&target.authority);
        registry.is_some_and(|registry| registry.outage(&target.authority).is_open())
    }
}

fn said_digest(response: &Response<Body>) -> Option<Digest> {
    response.headers().get(respond::CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}
