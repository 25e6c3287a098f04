//! Puts together what one request knows of its registry: its name in the cache, the way to it, whether it is away.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::policy::Policy;
use super::registry::registry::Registry;
use super::state::Proxy;
use super::tokens::local::{Holder, LocalTokens};
use crate::oci::{Authority, Authorization};
use crate::upstream::Authenticated;
use crate::upstream::{Outage, Upstream};

/// How long a registry that is known to be ill may take to revalidate a tag.
const ILL_DEADLINE: Duration = Duration::from_secs(1);

/// One host of a registry, for one request.
pub(crate) struct Context<'a> {
    pub(crate) proxy: &'a Arc<Proxy>,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) authority: &'a Authority,
    pub(crate) client: IpAddr,
    /// The registry's name in the cache.
    pub(crate) origin: Arc<str>,
    pub(crate) outage: Outage,
    /// What is sent by it makes up the outage.
    pub(crate) upstream: Upstream,
    /// Tokens are asked for by it.
    pub(crate) access: Authenticated,
    /// A token service of several registries: it is no part of one's outage.
    pub(crate) is_shared: bool,
    /// The client's own credentials, as they may go upstream.
    pub(crate) authorization: Option<Authorization>,
    /// For whom a token of ours stands, if the request carried a good one.
    pub(crate) holder: Option<Holder>,
}

impl<'a> Context<'a> {
    /// Takes a token of ours out of the headers, good or bad: below here nothing can forward it.
    pub(crate) fn new(
        proxy: &'a Arc<Proxy>,
        policy: &Policy,
        registry: &'a Arc<Registry>,
        authority: &'a Authority,
        client: IpAddr,
        headers: &mut HeaderMap,
    ) -> Self {
        let (origin, outage) = (registry.origin(authority), registry.outage(authority));
        let (authorization, holder) = take(proxy, &origin, headers);
        let is_shared = policy.shares(registry, authority);
        let upstream = if is_shared { policy.upstream.clone() } else { policy.upstream.of_registry(&outage) };
        let access = policy.access.over(&upstream);
        Self { proxy, registry, authority, client, origin, outage, upstream, access, is_shared, authorization, holder }
    }

    /// How long the registry may take where `deadline` is what it has: one that has missed one lately is not waited
    /// for as long.
    pub(crate) fn deadline(&self, deadline: Duration) -> Duration {
        let deciding = self.registry.deciding_endpoints(self.authority);
        let is_well = deciding.iter().any(|endpoint| self.upstream.is_well(endpoint));
        if is_well { deadline } else { deadline.min(ILL_DEADLINE) }
    }
}

/// The client's own credentials, and for whom a token of ours stands.
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
