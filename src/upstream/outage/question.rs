//! The proxy's own question to a part of a registry, and the way that it goes.

use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use tokio::time::Instant;

use crate::upstream::{Endpoint, Error};
use crate::wire::Body;

const NAME: HeaderValue = HeaderValue::from_static(concat!("pullthrough/", env!("CARGO_PKG_VERSION")));

/// What a probe asks through: a connection of its own, which no outage bars.
pub(crate) trait SendProbe: Send + Sync + 'static {
    /// One exchange over a connection that is younger than `since`.
    fn send_probe(
        &self,
        to: &Endpoint,
        request: Request<Body>,
        since: Instant,
    ) -> impl Future<Output = Result<Response<Body>, Error>> + Send;
}

/// Without credentials, and without anything of a client's.
pub(crate) fn question(method: &Method, target: &str) -> Result<Request<Body>, http::Error> {
    Request::builder().method(method).uri(target).header(USER_AGENT, NAME).body(Body::empty())
}
