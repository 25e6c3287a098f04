//! Chooses the endpoint for a request that is not pulled.

use crate::oci::Route;
use crate::proxy::context::Context;
use crate::upstream::Endpoint;

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
