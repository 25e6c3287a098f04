//! Reads once what a client wants of a registry, has the rules judge it, and notes it in the audit log.
//!
//! What goes upstream is printed from what was read here ([`Clearance::target`]), never from the bytes that came.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, Uri};

use super::{Action, AuditLine, AuditOutcome, Client, Clients, Intent, Judgement, Named, Rules};
use crate::oci::{Authority, BadPath, BadQuery, Enclosed, Query, Reference, Repository, Route};
use crate::proxy::registry::registry::Registry;
use crate::proxy::served::Served;
use crate::proxy::tokens::local::LOCAL_TOKEN_PATH;
use crate::telemetry::Kind;

/// The paths that registries use for a token service on their own host.
const TOKEN_PATHS: [&str; 8] = [
    "/token",
    "/v2/token",
    "/v2/auth",
    "/oauth2/token",
    "/oauth2/exchange",
    "/proxy_auth",
    "/jwt/auth",
    "/service/token",
];

/// One request as the rules and the audit log see it.
#[derive(Clone)]
pub(crate) struct Clearance {
    asked: Asked,
    route: Route,
    query: Query,
    kind: Kind,
    action: Action,
    mount: Mount,
}

/// The client, and where it sent its request.
#[derive(Clone)]
struct Asked {
    registry: Arc<str>,
    host: Authority,
    client: Client,
    method: Method,
}

/// The repository that a push mounts a blob from without uploading it: that is a pull there as well.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mount {
    None,
    From(Repository),
    /// The registry chooses it.
    Anywhere,
}

/// A request that servers could read in more than one way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    #[error(transparent)]
    Path(#[from] BadPath),
    #[error(transparent)]
    Query(#[from] BadQuery),
    #[error("the parameter from does not name a repository")]
    From,
    #[error("the request has more than one Authorization field")]
    Authorization,
    /// Registries that read a form read it before the query: another mount than the one that was judged.
    #[error("the request's body is a form; a registry takes bytes (Content-Type: application/octet-stream)")]
    Form,
    #[error("the request's Content-Type is not one media type")]
    Enclosed,
}

/// Reads a request to `authority`.
///
/// # Errors
/// [`Flaw`], which has been noted in the audit log.
pub(crate) fn of<B: http_body::Body>(
    registry: &Registry,
    client: &Client,
    authority: &Authority,
    request: &Request<B>,
    clients: &Clients,
) -> Result<Clearance, Flaw> {
    let asked = Asked {
        registry: registry.name().clone(),
        host: authority.clone(),
        client: client.clone(),
        method: request.method().clone(),
    };
    let read = || {
        if request.headers().get_all(AUTHORIZATION).iter().nth(1).is_some() {
            return Err(Flaw::Authorization);
        }
        // At a token service's host, too, which may stand before a registry.
        let route = Route::parse(request.uri().path())?;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let kind = kind(registry, authority, &route);
        let is_of_protocol = route.is_of_protocol();
        let action = action(&asked.method, kind, is_of_protocol);
        let changes = action == Action::Push && is_of_protocol;
        if changes && !request.body().is_end_stream() {
            match Enclosed::of(request.headers().get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes)) {
                Enclosed::Content => {}
                Enclosed::Form => return Err(Flaw::Form),
                Enclosed::Unclear => return Err(Flaw::Enclosed),
            }
        }
        let mount = if changes { mount(&query)? } else { Mount::None };
        Ok((route, query, kind, action, mount))
    };
    match read() {
        Ok((route, query, kind, action, mount)) => Ok(Clearance { asked, route, query, kind, action, mount }),
        Err(flaw) => {
            let reason = Some(flaw.to_string());
            asked.note_refused(clients, None, request.uri(), (None, reason), StatusCode::BAD_REQUEST);
            Err(flaw)
        }
    }
}

/// A token service on the registry's own host, the proxy's among them, is known by its path. On a host of its own, everything
/// but what a registry could take for a request of the protocol is one; of that, a path that ends as token services'
/// do.
fn kind(registry: &Registry, authority: &Authority, route: &Route) -> Kind {
    let Route::Other(plain) = route else { return Kind::from(route) };
    let path = plain.as_str().trim_end_matches('/');
    let has_own_host = registry.has_token_host(authority) && !registry.is_at(authority);
    let ends = |known: &&str| known.rsplit('/').next() == path.rsplit('/').next();
    let is_token = path == LOCAL_TOKEN_PATH
        || TOKEN_PATHS.contains(&path)
        || has_own_host && (!plain.is_of_protocol() || TOKEN_PATHS.iter().any(ends));
    if is_token { Kind::Token } else { Kind::from(route) }
}

/// Under `/v2/` whatever is neither GET nor HEAD is a push. A token service, and pages that are not of the protocol,
/// take other methods for other reasons.
fn action(method: &Method, kind: Kind, is_of_protocol: bool) -> Action {
    match *method {
        Method::GET | Method::HEAD => Action::Pull,
        Method::POST if kind == Kind::Token => Action::Pull,
        _ if is_of_protocol => Action::Push,
        Method::OPTIONS => Action::Pull,
        _ => Action::Push,
    }
}

fn mount(query: &Query) -> Result<Mount, Flaw> {
    match (query.only("from")?, query.only("mount")?) {
        (Some(from), _) => from.parse().map(Mount::From).map_err(|_| Flaw::From),
        (None, Some(_)) => Ok(Mount::Anywhere),
        (None, None) => Ok(Mount::None),
    }
}

impl Clearance {
    pub(crate) fn client(&self) -> IpAddr {
        self.asked.client.from.address
    }

    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a registry is asked to change something, which `push` allows or denies.
    pub(crate) fn is_push(&self) -> bool {
        self.action == Action::Push && self.route.is_of_protocol()
    }

    /// The tag or digest that is asked for.
    pub(crate) fn reference(&self) -> Option<Reference> {
        match &self.route {
            Route::Manifest(_, reference) => Some(reference.clone()),
            Route::Blob(_, digest) | Route::Referrers(_, digest) => Some(Reference::Digest(*digest)),
            _ => None,
        }
    }

    /// Path and query as they are sent upstream: printed from what was judged.
    pub(crate) fn target(&self) -> Option<PathAndQuery> {
        let path = self.route.to_string();
        let target = if self.query.is_empty() { path } else { format!("{path}?{}", self.query) };
        target.parse().ok()
    }

    /// The rules' judgement. Pings and tokens name no repository and are not judged: a client needs them to
    /// learn that it may not. A request of the protocol that names none is judged as one for any of them.
    pub(crate) fn judge(&self, rules: &Rules) -> Judgement {
        let asks_to_learn = self.action == Action::Pull && (self.kind == Kind::Token || self.route == Route::Ping);
        let is_exempt = asks_to_learn || !self.route.is_of_protocol();
        if rules.is_empty() || is_exempt {
            return Judgement::Allowed(None);
        }
        let Asked { registry, host, .. } = &self.asked;
        let intent = |repository, action| self.intent(registry, host, repository, action);
        let source = match &self.mount {
            Mount::None => None,
            Mount::From(repository) => Some(Named::One(repository)),
            Mount::Anywhere => Some(Named::Any),
        };
        if let Some(source) = source
            && let Judgement::Denied(rule) = rules.judge(&intent(source, Action::Pull))
        {
            return Judgement::Denied(rule);
        }
        rules.judge(&intent(self.route.repository().map_or(Named::Any, Named::One), self.action))
    }

    /// What the client wants, as if it had asked another registry for it.
    pub(crate) fn intent<'a>(
        &'a self,
        registry: &'a str,
        host: &'a Authority,
        repository: Named<'a>,
        action: Action,
    ) -> Intent<'a> {
        let client = &self.asked.client;
        Intent { user: client.user.as_deref(), client: client.from.address, registry, host, repository, action }
    }

    /// The repository that it reads, if it reads one.
    pub(crate) fn is_read_of(&self) -> Option<&Repository> {
        self.route.repository().filter(|_| self.action == Action::Pull)
    }

    /// Notes how a manifest's pull ended.
    pub(crate) fn note_answer(&self, clients: &Clients, served: &Served, rule: Option<Arc<str>>) {
        let outcome = match served.status() {
            status if status.is_success() || status == StatusCode::NOT_MODIFIED => AuditOutcome::Pulled,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => AuditOutcome::Denied,
            StatusCode::NOT_FOUND => AuditOutcome::Missing,
            _ => AuditOutcome::Failed,
        };
        let (Some(audit), Route::Manifest(repository, reference)) = (&clients.audit, &self.route) else { return };
        if self.action != Action::Pull || served.answer.declined().is_some() {
            return; // the proxy's own refusals have a line of their own
        }
        let line = self.asked.line(outcome, served.status());
        audit.write(AuditLine {
            repository: Some(repository.clone()),
            reference: Some(reference.clone()),
            digest: served.digest,
            rule,
            ..line
        });
    }

    /// Notes that the proxy refused it: by a rule, or because pushes do not pass.
    pub(crate) fn note_refused(&self, clients: &Clients, uri: &Uri, rule: Option<Arc<str>>, status: StatusCode) {
        let reason = rule.is_none().then(|| "pushes do not pass".to_owned());
        self.asked.note_refused(clients, Some(self), uri, (rule, reason), status);
    }

    /// Notes that a rule refuses what another registry's repository brought, to which the registry redirects.
    pub(crate) fn note_detour(&self, clients: &Clients, path: &Uri, rule: Arc<str>, detour: String) {
        self.asked.note_refused(clients, Some(self), path, (Some(rule), Some(detour)), StatusCode::FORBIDDEN);
    }
}

impl Asked {
    fn note_refused(
        &self,
        clients: &Clients,
        clearance: Option<&Clearance>,
        uri: &Uri,
        (rule, reason): (Option<Arc<str>>, Option<String>),
        status: StatusCode,
    ) {
        let Some(audit) = &clients.audit else { return };
        audit.write(AuditLine {
            repository: clearance.and_then(|clearance| clearance.route.repository().cloned()),
            reference: clearance.and_then(Clearance::reference),
            path: Some(AuditLine::cut(uri.path())),
            rule,
            reason: reason.as_deref().map(AuditLine::cut),
            ..self.line(AuditOutcome::Refused, status)
        });
    }

    fn line(&self, outcome: AuditOutcome, status: StatusCode) -> AuditLine {
        AuditLine {
            user: self.client.user.clone(),
            registry: Some(self.registry.clone()),
            method: Some(self.method.clone()),
            ..AuditLine::new(self.client.from.address, outcome, status.as_u16())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(query: &str) -> Result<Mount, String> {
        mount(&Query::parse(query).unwrap()).map_err(|flaw| flaw.to_string())
    }

    #[test]
    fn a_mount_is_known_by_what_its_query_says_and_not_by_how_it_is_spelt() {
        let from = || Ok(Mount::From("internal/app".parse().unwrap()));
        for query in
            ["from=internal/app", "from=%69nternal/app", "%66rom=internal%2fapp", "mount=x&from=internal/%61pp"]
        {
            assert_eq!(mounted(query), from(), "{query}");
        }
        assert_eq!(mounted("digest=x"), Ok(Mount::None));
        assert_eq!(mounted("mount=sha256:00"), Ok(Mount::Anywhere));
        for query in ["from=a&from=b", "From=a", "from=", "from=A/b", "from=a%20b"] {
            assert!(mounted(query).is_err(), "{query}");
        }
    }

    #[test]
    fn whatever_is_neither_get_nor_head_is_a_push_under_v2() {
        let of = |method: &str, kind, protocol| action(&Method::from_bytes(method.as_bytes()).unwrap(), kind, protocol);
        for method in ["PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            assert_eq!(of(method, Kind::Other, true), Action::Push, "{method}");
        }
        for method in ["PUT", "DELETE"] {
            assert_eq!(of(method, Kind::Token, true), Action::Push, "{method}");
        }
        assert_eq!(of("POST", Kind::Token, true), Action::Pull);
        assert_eq!(of("OPTIONS", Kind::Other, false), Action::Pull);
        assert_eq!(of("HEAD", Kind::Blob, true), Action::Pull);
    }
}
