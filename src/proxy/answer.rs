//! What an upstream said instead of content: kept as facts until `respond` makes an answer of it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::access::Unasked;
use crate::cache::{Fault, Retry, Said};
use crate::oci::Authority;
use crate::upstream::{self, Error};
use crate::wire::{Body, collect_within};

/// An error's head is passed on up to this size.
const HEAD_LIMIT: usize = 32 << 10;
/// An error body is passed on up to this length.
const BODY_LIMIT: usize = 64 << 10;
/// And if it ends within so long: its head has said what counts.
const BODY_TIME: Duration = Duration::from_secs(5);

/// What we are, for upstreams whose client said nothing of itself.
pub(super) const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("pullthrough/", env!("CARGO_PKG_VERSION")));

/// An upstream's answer that is no success.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the registry answered {status}")]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A partial answer that does not say which part it is, or begins too late.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the upstream's Content-Range is not the one asked for")]
pub(super) struct BadRange;

/// A host to which the registry redirected refused. Its words are not passed on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{authority}, to which the registry redirects, answered {status}")]
pub(super) struct Elsewhere {
    pub(super) authority: Authority,
    pub(super) status: StatusCode,
}

/// A registry without any endpoint.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the registry has no endpoint")]
pub(super) struct NoEndpoint;

impl Refused {
    /// Keeps what a client may need of it; a body that is too long or breaks off is left out.
    pub(super) async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = collect_within(body, BODY_LIMIT, BODY_TIME).await.unwrap_or_default();
        Self { status: parts.status, headers: bounded(parts.headers), body }
    }
}

/// A head that is larger than any challenge needs is left out: what was refused is kept for a while.
fn bounded(headers: HeaderMap) -> HeaderMap {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size <= HEAD_LIMIT { headers } else { HeaderMap::new() }
}

/// An exchange that failed, as the cache understands it.
pub(super) fn fault_of(error: Error) -> Fault {
    let retry = if error.retry() == upstream::Retry::Never { Retry::Never } else { Retry::Again };
    Fault::new(retry, error)
}

/// A request that was not made, or not answered, as the cache understands it.
pub(super) fn fault_of_unasked(unasked: Unasked) -> Fault {
    match unasked {
        Unasked::Upstream(error) => fault_of(error),
        denied if denied.is_denial() => Fault { said: Said::Denied, ..Fault::new(Retry::Never, denied) },
        other => Fault::new(Retry::Never, other),
    }
}
