//! A push or a delete that may pass: streamed through; what the cache believed of its target is forgotten.

use http::{Request, Response};
use hyper::body::Incoming;

use super::dispatch::endpoint;
use crate::cache::Place;
use crate::oci::{Reference, Route};
use crate::proxy::clients::clearance::Wanted;
use crate::proxy::context::Site;
use crate::proxy::{forward, respond};
use crate::telemetry::{Kind, Outcome};
use crate::wire::Body;

/// Streams it to the registry, and its answer back.
pub(crate) async fn answer(site: &Site<'_>, errand: &Wanted, request: Request<Incoming>) -> Response<Body> {
    let Site { proxy, registry, .. } = site;
    let endpoint = endpoint(site, errand.route());
    let mut response = forward::within_share(
        proxy,
        site.client,
        forward::pass(proxy, &site.upstream, registry, &endpoint, Kind::Upload, request),
    )
    .await;
    if response.status().is_success() {
        proxy.cache.forget_missing();
        if let Route::Manifest(repository, Reference::Tag(tag)) = errand.route() {
            proxy.cache.forget_tag(&Place { registry: site.origin.clone(), repository: repository.clone() }, tag);
        }
    }
    respond::mark(response.headers_mut(), Outcome::Bypass, false, None);
    response
}
