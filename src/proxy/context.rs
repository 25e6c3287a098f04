//! Gathers what a request to a registry's host needs: the registry, how it is reached, whether it is away.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::policy::Policy;
use super::registry::registry::Registry;
use super::state::Proxy;
use super::tokens::local::{Holder, LocalTokens};
use crate::oci::Authority;
use crate::upstream::{Authenticated, Quotas};
use crate::upstream::{Outage, Upstream};

/// How long a registry that is known to be ill may take to revalidate a tag.
const ILL_DEADLINE: Duration = Duration::from_secs(1);

/// One host of a registry, for one request.
pub(crate) struct Context<'a> {
    pub(crate) proxy: &'a Arc<Proxy>,
    policy: &'a Policy,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) authority: &'a Authority,
    pub(crate) client: IpAddr,
    /// The registry's name in the cache.
    pub(crate) origin: Arc<str>,
    pub(crate) outage: Outage,
    /// What is sent by it makes up the outage.
    pub(crate) upstream: OnUse<'a, Upstream>,
    /// Tokens are asked for by it.
    pub(crate) access: OnUse<'a, Authenticated>,
    /// A token service of several registries: it is no part of one's outage.
    pub(crate) is_shared: bool,
    /// For whom a token of ours stands, if the request carried a good one.
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
        self.made.get_or_init(|| self.policy.access.over(&self.upstream()))
    }
}

impl<'a> Context<'a> {
    /// Takes a token of ours out of the headers, good or bad: below here nothing can forward it.
    pub(crate) fn new(
        proxy: &'a Arc<Proxy>,
        policy: &'a Policy,
        registry: &'a Arc<Registry>,
        authority: &'a Authority,
        client: IpAddr,
        headers: &mut HeaderMap,
    ) -> Self {
        let (origin, outage) = (registry.origin(authority), registry.outage(authority));
        let holder = take(proxy, &origin, headers);
        let is_shared = policy.shares(registry, authority);
        let own = (!is_shared).then(|| outage.clone());
        let (upstream, access) = (OnUse::new(policy, own.clone()), OnUse::new(policy, own));
        Self { proxy, policy, registry, authority, client, origin, outage, upstream, access, is_shared, holder }
    }

    /// How long the registry may take where `deadline` is what it has: one that has missed one lately is not waited
    /// for as long.
    pub(crate) fn deadline(&self, deadline: Duration) -> Duration {
        let deciding = self.registry.deciding_endpoints(self.authority);
        let is_well = deciding.iter().any(|endpoint| self.policy.upstream.is_well(endpoint));
        if is_well { deadline } else { deadline.min(ILL_DEADLINE) }
    }

    /// What registries say is left of their pull limits.
    pub(crate) fn quotas(&self) -> &Quotas {
        self.policy.access.quotas()
    }

    /// Whether anything is reached through a parent.
    pub(crate) fn has_parents(&self) -> bool {
        self.policy.upstream.has_parents()
    }
}

fn take(proxy: &Proxy, origin: &str, headers: &mut HeaderMap) -> Option<Holder> {
    // Another header beside it would be forwarded with whatever it holds.
    let ours = headers.get_all(AUTHORIZATION).iter().find_map(LocalTokens::within)?.to_owned();
    headers.remove(AUTHORIZATION);
    let holder = proxy.local.validate(origin, &ours, std::time::SystemTime::now()).ok()?;
    if let Some(header) = proxy.bearers.stood_for(&proxy.cache, &ours) {
        headers.insert(AUTHORIZATION, header);
        return None;
    }
    Some(holder)
}
