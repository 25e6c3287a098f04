//! Tells who asks for what is listed in a repository, and whether it may read there, by what is known at one moment.

use http::HeaderMap;

use crate::cache::{Place, PlaceReader, Principal, Trust};
use crate::proxy::auth::identity;
use crate::proxy::context::Context;

/// A client at a place.
pub(crate) struct ListReader {
    pub(crate) principal: Principal,
    pub(crate) trust: Trust,
    pub(crate) may_read: bool,
}

impl ListReader {
    /// Who a request to `context` with these `headers` is from, and what the registry has said of its right. Asks nobody.
    pub(crate) async fn of(context: &Context<'_>, place: &Place, headers: &HeaderMap) -> Self {
        let (registry, cache) = (context.registry, &context.proxy.cache);
        let trust = Trust { lives: registry.lives(), away: context.outage.is_home_away(), ..Trust::default() };
        let public = cache.public_age(place).await;
        let identity = identity::of(context, place, headers, &trust, public.holds(&trust));
        let (principal, trust) = (identity.principal, Trust { lapsed: identity.lapsed, ..trust });
        let reader = PlaceReader { place, principal: &principal, trust: &trust, public: Some(public) };
        let may_read = cache.may_read(reader).await;
        Self { principal, trust, may_read }
    }
}
