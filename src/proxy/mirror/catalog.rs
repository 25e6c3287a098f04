//! Answers `_catalog` at the mirror with what the cache knows of the registries behind its names, where the configuration
//! says so.
//!
//! Never: name a repository to whom the cache would not give its tags, or of a registry whose catalog a rule denies; ask a
//! registry.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{Method, Request};

use super::inner;
use crate::oci::{Authority, Query, Route};
use crate::proxy::auth::guesses;
use crate::proxy::clients::{Client, Judgement, clearance};
use crate::proxy::context::Context;
use crate::proxy::naming::resolve::{MirrorTargetRoute, Resolved};
use crate::proxy::policy::Policy;
use crate::proxy::record::Record;
use crate::proxy::registry::registry::{Registry, Whose};
use crate::proxy::respond::{self, Failure, Rendered};
use crate::proxy::site::{Naming, Site};
use crate::proxy::state::Proxy;
use crate::proxy::v2::catalog::{self, CatalogPage};
use crate::telemetry::Outcome;
use crate::wire::Received;

const PATH: &str = "/v2/_catalog";

/// Whether that is what is asked for, and answered here.
pub(crate) fn is_asked<B>(policy: &Policy, request: &Request<B>) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    policy.mirror.catalog && reads && request.uri().path() == PATH
}

/// A request for the names of all repositories.
pub(super) struct CatalogQuestion<'a> {
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) policy: &'a Policy,
    pub(super) client: &'a Client,
    pub(super) host: &'a Authority,
    pub(super) base: Arc<str>,
    pub(super) query: &'a Query,
    /// What the path means, if one registry alone may be asked for it.
    pub(super) resolved: Option<&'a Resolved>,
}

impl CatalogQuestion<'_> {
    pub(super) async fn answer(&self, request: &Request<Received>) -> Rendered {
        let mut record = Record::new(&self.proxy.metrics, self.client.from, request, self.host.short(80), "other");
        record.user(self.client.user.as_ref());
        record.path(PATH);
        let mut rendered = match self.page(request).await {
            Ok(rendered) => rendered,
            Err(failure) => failure.render(),
        };
        respond::mark(rendered.response.headers_mut(), Outcome::Hit, false, None);
        record.verdict("own", rendered.response.status().as_u16());
        record.attach(rendered)
    }

    async fn page(&self, request: &Request<Received>) -> Result<Rendered, Failure> {
        let page = CatalogPage::of(self.query)?;
        let mut names = BTreeSet::new();
        for registry in self.policy.registries.iter().filter(|registry| registry.is_one()) {
            let Some(authority) = registry.first_host() else { continue };
            names.extend(self.of(registry, authority, request).await?);
        }
        Ok(page.answer(request.method(), PATH, &names).into())
    }

    /// The names of one registry's repositories that this client may read and has a name for.
    async fn of(
        &self,
        registry: &Arc<Registry>,
        authority: Authority,
        request: &Request<Received>,
    ) -> Result<Vec<String>, Failure> {
        let takes_credentials = self.takes_credentials(registry);
        if !self.is_allowed(registry, &authority, request) {
            return Ok(Vec::new());
        }
        let namespace: Option<Arc<str>> = self.query.only("ns").ok().flatten().map(Arc::from);
        let naming =
            Naming { base: self.base.clone(), repository: None, namespace: namespace.clone(), takes_credentials };
        let mut headers = request.headers().clone();
        headers.remove(COOKIE);
        if !takes_credentials {
            headers.remove(AUTHORIZATION); // it is the mirror's own
        }
        let site = Site { authority, naming: Some(naming) };
        let from = self.client.from.address;
        let context = Context::new(self.proxy, self.policy, registry, &site, from, &mut headers);
        let readable = Box::pin(catalog::readable(&context, &headers)).await.map_err(|error| {
            tracing::warn!(%error, "cannot read the catalog");
            respond::no_answer()
        })?;
        if readable.is_to_stranger {
            Box::pin(guesses::admit_stranger(&context)).await?;
        }
        let (named, registries) = (&self.policy.mirror.names, &self.policy.registries);
        let written = |repository| named.written(registries, (self.host, namespace.as_deref()), (registry, repository));
        Ok(readable.names.iter().filter_map(written).collect())
    }

    /// Whether the rules let the client ask this registry for its catalog.
    fn is_allowed(&self, registry: &Arc<Registry>, authority: &Authority, request: &Request<Received>) -> bool {
        let mut asked = Request::new(Received::empty());
        *asked.headers_mut() = request.headers().clone();
        let (parts, body) = asked.into_parts();
        let Ok(route) = Route::parse(PATH) else { return false };
        let target = MirrorTargetRoute { authority: authority.clone(), route };
        let Ok(asked) = inner::request(parts, body, &target, &Query::default(), false) else { return false };
        let clients = &self.policy.clients;
        clearance::of(registry, self.client, authority, &asked, clients)
            .is_ok_and(|clearance| matches!(clearance.judge(&clients.rules), Judgement::Allowed(_)))
    }

    /// As for any other request by this name.
    fn takes_credentials(&self, registry: &Registry) -> bool {
        let is_its_name = |resolved: &Resolved| {
            resolved.is_host_of_one && resolved.targets.iter().all(|target| registry.is_at(&target.authority))
        };
        self.resolved.is_some_and(is_its_name)
            && self.policy.clients.logins.is_none()
            && matches!(registry.whose(), Whose::Client)
    }
}
