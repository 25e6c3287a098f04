//! What a visitor wants of a registry, judged by the rules and written down by the audit log.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, Request, Response, StatusCode};

use super::guests::{Action, AuditLine, AuditOutcome, Errand, House, Judgement, Rules, Visitor};
use super::registry::Registry;
use super::respond::CONTENT_DIGEST;
use crate::oci::{Authority, Repository, Route};
use crate::wire::Body;

/// One request as rules and audit log see it.
pub(super) struct Wanted {
    registry: Arc<str>,
    host: Authority,
    visitor: Visitor,
    route: Route,
    action: Action,
    /// The repository that a mount takes a blob from: it is pulled from as well.
    mounted_from: Option<Repository>,
}

/// Reads a request that was made to `authority`.
pub(super) fn of<B>(registry: &Registry, visitor: &Visitor, authority: &Authority, request: &Request<B>) -> Wanted {
    let route = if registry.is_at(authority) { Route::parse(request.uri().path()) } else { Route::Other };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let query = request.uri().query().unwrap_or_default();
    let from = query.split('&').find_map(|pair| pair.strip_prefix("from="));
    Wanted {
        registry: registry.name().clone(),
        host: authority.clone(),
        visitor: visitor.clone(),
        mounted_from: from.and_then(|name| name.replace("%2F", "/").replace("%2f", "/").parse().ok()),
        action: if reads { Action::Pull } else { Action::Push },
        route,
    }
}

impl Wanted {
    pub(super) fn client(&self) -> IpAddr {
        self.visitor.client
    }

    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// What the rules say. Pings and tokens name no repository and are judged by nobody: a client needs them to
    /// learn that it may not.
    pub(super) fn judge(&self, rules: &Rules) -> Judgement {
        if rules.is_empty() || matches!(self.route, Route::Ping | Route::Other) {
            return Judgement::Allowed(None);
        }
        let errand = |repository, action| Errand {
            user: self.visitor.user.as_deref(),
            client: self.visitor.client,
            registry: &self.registry,
            host: &self.host,
            repository,
            action,
        };
        if let Some(from) = &self.mounted_from
            && let Judgement::Denied(rule) = rules.judge(&errand(Some(from), Action::Pull))
        {
            return Judgement::Denied(rule);
        }
        rules.judge(&errand(self.route.repository(), self.action))
    }

    /// Notes how a manifest's pull ended.
    pub(super) fn note_answer(&self, house: &House, response: &Response<Body>, rule: Option<Arc<str>>) {
        let outcome = match response.status() {
            status if status.is_success() || status == StatusCode::NOT_MODIFIED => AuditOutcome::Pulled,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => AuditOutcome::Denied,
            StatusCode::NOT_FOUND => AuditOutcome::Missing,
            _ => AuditOutcome::Failed,
        };
        self.note(house, Some(response), outcome, rule);
    }

    /// Writes the audit line, if this is a manifest's pull and there is an audit log.
    pub(super) fn note(
        &self,
        house: &House,
        response: Option<&Response<Body>>,
        outcome: AuditOutcome,
        rule: Option<Arc<str>>,
    ) {
        let (Some(audit), Route::Manifest(repository, reference)) = (&house.audit, &self.route) else { return };
        if self.action != Action::Pull {
            return;
        }
        let digest = response.and_then(|response| response.headers().get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok());
        audit.write(AuditLine {
            time: SystemTime::now(),
            client: self.visitor.client,
            user: self.visitor.user.clone(),
            registry: self.registry.clone(),
            repository: repository.clone(),
            reference: reference.clone(),
            digest,
            rule,
            outcome,
            status: response.map_or(StatusCode::FORBIDDEN, Response::status).as_u16(),
        });
    }
}
