//! Streams a push or a delete through, and has the cache forget what it believed of its target.

use http::Request;

use super::endpoint::endpoint;
use crate::cache::Place;
use crate::oci::{Reference, Route};
use crate::proxy::clients::clearance::Clearance;
use crate::proxy::context::Context;
use crate::proxy::forward;
use crate::proxy::served::Served;
use crate::telemetry::Kind;
use crate::wire::Received;

/// Streams it to the registry, and its answer back.
pub(crate) async fn answer(context: &Context<'_>, clearance: &Clearance, request: Request<Received>) -> Served {
    let proxy = context.proxy;
    let endpoint = endpoint(context, clearance.route());
    let answer = forward::within_share(
        proxy,
        context.client,
        forward::pass(context, &context.upstream, &endpoint, Kind::Upload, request),
    )
    .await;
    if answer.status().is_success() {
        proxy.cache.forget_missing();
        proxy.lists.forget_gone();
        if let Route::Manifest(repository, Reference::Tag(tag)) = clearance.route() {
            proxy.cache.forget_tag(&Place { registry: context.origin.clone(), repository: repository.clone() }, tag);
        }
    }
    Served::bypass(answer)
}
