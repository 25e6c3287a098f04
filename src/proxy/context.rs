//! Gathers what a request to a registry's host needs: the registry, how it is reached, whether it is away.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::asked::AskedUpstream;
use super::policy::Policy;
use super::registry::registry::Registry;
use super::site::{Naming, Site};
use super::state::Proxy;
use super::tokens::bearers::make_plain;
use super::tokens::local::{Holder, LocalTokens};
use crate::oci::{Authority, Authorization};
use crate::upstream::{Authenticated, Quotas};
use crate::upstream::{Outage, Upstream};

/// How long a registry that is known to be unhealthy may take to revalidate a tag.
const UNHEALTHY_DEADLINE: Duration = Duration::from_secs(1);

/// One host of a registry, for one request.
pub(crate) struct Context<'a> {
    pub(crate) proxy: &'a Arc<Proxy>,
    policy: &'a Policy,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) authority: &'a Authority,
    /// How a mirror's client calls it.
    pub(crate) naming: Option<&'a Naming>,
    pub(crate) client: IpAddr,
    /// The registry's name in the cache.
    pub(crate) origin: Arc<str>,
    pub(crate) outage: Outage,
    /// Requests sent through it are evidence for the outage.
    pub(crate) upstream: OnUse<'a, Upstream>,
    /// Requests tokens.
    pub(crate) authenticated: OnUse<'a, Authenticated>,
    asked: OnceLock<AskedUpstream>,
    /// It is a token service of several registries, and so no part of one registry's outage.
    pub(crate) is_shared: bool,
    /// The client's own credentials, as they may go upstream.
    pub(crate) authorization: Option<Authorization>,
    /// The holder of the proxy's own token that the request carried, if it was valid.
    pub(crate) holder: Option<Holder>,
}

/// What is made only for a request that asks upstream: the cache answers most others without it.
pub(crate) struct OnUse<'a, T> {
    policy: &'a Policy,
    /// `None` where what is sent is no part of an outage.
    outage: Option<Outage>,
    made: OnceLock<T>,
}

impl<'a, T> OnUse<'a, T> {
    fn new(policy: &'a Policy, outage: Option<Outage>) -> Self {
        Self { policy, outage, made: OnceLock::new() }
    }

    fn upstream(&self) -> Upstream {
        self.outage
            .as_ref()
            .map_or_else(|| self.policy.upstream.clone(), |outage| self.policy.upstream.of_registry(outage))
    }
}

impl Deref for OnUse<'_, Upstream> {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        self.made.get_or_init(|| self.upstream())
    }
}

impl Deref for OnUse<'_, Authenticated> {
    type Target = Authenticated;

    fn deref(&self) -> &Authenticated {
        self.made.get_or_init(|| self.policy.authenticated.over(&self.upstream()))
    }
}

impl<'a> Context<'a> {
    /// Takes a token of the proxy out of the headers, valid or not, so that nothing below can forward it; and everything that
    /// tells who the client is, where its credentials are the mirror's and none of the registry's.
    pub(crate) fn new(
        proxy: &'a Arc<Proxy>,
        policy: &'a Policy,
        registry: &'a Arc<Registry>,
        site: &'a Site,
        client: IpAddr,
        headers: &mut HeaderMap,
    ) -> Self {
        let authority = &site.authority;
        let (origin, outage) = (registry.origin(authority), registry.outage(authority));
        if !site.takes_credentials() {
            make_plain(headers);
        }
        let (authorization, holder) = take(proxy, &origin, headers);
        let is_shared = policy.shares(registry, authority);
        let own = (!is_shared).then(|| outage.clone());
        let (upstream, authenticated) = (OnUse::new(policy, own.clone()), OnUse::new(policy, own));
        Self {
            proxy,
            policy,
            registry,
            authority,
            naming: site.naming.as_ref(),
            client,
            origin,
            outage,
            upstream,
            authenticated,
            asked: OnceLock::new(),
            is_shared,
            authorization,
            holder,
        }
    }

    /// Whether a client's credentials are this registry's. Elsewhere no client needs any, and none would be used.
    pub(crate) fn takes_credentials(&self) -> bool {
        self.naming.is_none_or(|naming| naming.takes_credentials)
    }

    /// What the registry calls the repository that its client calls `written`.
    pub(crate) fn own_name(&self, written: &str) -> String {
        let place = self.naming.and_then(|naming| {
            let (host, registries) = (naming.host()?, &self.policy.registries);
            let places = self.policy.mirror.names.places(registries, &host, naming.namespace.as_deref(), written);
            places.into_iter().find(|(authority, _)| authority == self.authority)
        });
        place.map_or_else(|| written.to_owned(), |(_, own)| own.to_string())
    }

    /// What is asked of the registry for this request. Made only when something is.
    pub(crate) fn asked(&self) -> &AskedUpstream {
        self.asked.get_or_init(|| AskedUpstream::new(self.proxy.metrics.registry(self.registry.name())))
    }

    /// The same, if anything was asked.
    pub(crate) fn was_asked(&self) -> Option<&AskedUpstream> {
        self.asked.get()
    }

    /// How long the registry may take: `deadline`, or less where it has missed one lately.
    pub(crate) fn deadline(&self, deadline: Duration) -> Duration {
        let deciding = self.registry.deciding_endpoints(self.authority);
        let is_well = deciding.iter().any(|endpoint| self.policy.upstream.is_well(endpoint));
        if is_well { deadline } else { deadline.min(UNHEALTHY_DEADLINE) }
    }

    /// What registries say is left of their pull limits.
    pub(crate) fn quotas(&self) -> &Quotas {
        self.policy.authenticated.quotas()
    }

    /// Whether anything is reached through a parent.
    pub(crate) fn has_parents(&self) -> bool {
        self.policy.upstream.has_parents()
    }
}

/// The client's own credentials, and for whom a token of the proxy stands.
fn take(proxy: &Proxy, origin: &str, headers: &mut HeaderMap) -> (Option<Authorization>, Option<Holder>) {
    let mut read = headers.get_all(AUTHORIZATION).iter().map(|value| Authorization::parse(value.as_bytes()));
    let Some(first) = read.next() else { return (None, None) };
    // Another header beside it would be forwarded with whatever it holds.
    let further = read.find(|authorization| LocalTokens::within(authorization).is_some());
    let Some(ours) = LocalTokens::within(&first).or_else(|| LocalTokens::within(further.as_ref()?)) else {
        return (Some(first), None);
    };
    headers.remove(AUTHORIZATION);
    let Ok(holder) = proxy.local.validate(origin, ours, std::time::SystemTime::now()) else { return (None, None) };
    if let Some(header) = proxy.bearers.stood_for(&proxy.cache, ours) {
        let authorization = Authorization::parse(header.as_bytes());
        headers.insert(AUTHORIZATION, header);
        return (Some(authorization), None);
    }
    (None, Some(holder))
}
