//! Follows redirects on our side: a client never learns of a CDN, and a CDN never sees credentials.
//!
//! Threat: a registry that redirects to an inside address, to plain http, or to a host that collects tokens.
//! Defence: every hop is dialled under the address rules, https stays https, plain http leads to no other plain http
//! but what the configuration names, and what leaves the first scheme,
//! host and port is a short list of harmless headers, for good.

use std::time::Duration;

use http::header::{HeaderMap, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::evidence::Evidence;
use super::location::{Location, resolve};
use super::plain::{self, harmless};
use crate::oci::Authority;
use crate::upstream::net::downloads::{Downloads, holding};
use crate::upstream::{Endpoint, Error, Upstream};
use crate::wire::{Body, collect};

/// Who answered in the end; an extension of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalHop {
    /// The host that answered.
    pub authority: Authority,
    /// How many redirects led there.
    pub redirects: usize,
}

const LIMIT: usize = 10;

impl Upstream {
    /// A GET or HEAD whose redirects (301, 302, 303, 307, 308, at most ten) are followed. HEAD stays HEAD.
    /// Only the first scheme, host and port sees `Authorization`, cookies and whatever else is not needed to
    /// fetch; every hop obeys the address rules, and none leads from https to http. The answer carries a
    /// [`FinalHop`] among its extensions. Another method is sent, and not followed.
    ///
    /// # Errors
    /// As [`Upstream::send`], and for redirects that are not followed.
    pub async fn fetch(&self, to: &Endpoint, request: Request<()>) -> Result<Response<Body>, Error> {
        self.download(to, request, Downloads::Uncounted).await
    }

    /// As [`Upstream::fetch`], among the downloads that each host on the way serves at a time. The answer's body
    /// keeps its place until it ends or is dropped.
    ///
    /// # Errors
    /// As [`Upstream::fetch`], and [`Error::Busy`].
    pub async fn download(
        &self,
        to: &Endpoint,
        request: Request<()>,
        downloads: Downloads,
    ) -> Result<Response<Body>, Error> {
        follow(self, to, request, downloads).await
    }
}

async fn follow(
    upstream: &Upstream,
    to: &Endpoint,
    request: Request<()>,
    downloads: Downloads,
) -> Result<Response<Body>, Error> {
    let request = plain::withheld(to, request);
    let first = first_location(to, &request)?;
    let (method, mut headers) = (request.method().clone(), request.headers().clone());
    let follows = method == Method::GET || method == Method::HEAD;
    let mut at = first.clone();
    for redirects in 0..=LIMIT {
        let at_home = at.same_origin(&first);
        let pool = if at_home { upstream.pools().to_endpoint(to) } else { upstream.pools().to_host(&at.authority) };
        let request = request_to(&at, method.clone(), headers.clone())?;
        upstream.admit(to, &at.authority, request.headers()).await?;
        let permit = upstream.slots().take(&at.authority, downloads).await?;
        let begun = Instant::now();
        let outcome = upstream.exchange(pool, &at.authority, request, downloads.into()).await;
        let tells = Evidence::is_telling(&method, outcome.as_ref().map(Response::status));
        if tells && at_home {
            upstream.note(to, Some(&at.target), begun, outcome.as_ref());
        } else if tells {
            upstream.note_elsewhere(to, &at.authority, begun, outcome.as_ref());
        }
        let mut answer = outcome?;
        if !follows || !is_redirect(answer.status()) {
            answer.extensions_mut().insert(FinalHop { authority: at.authority, redirects });
            return Ok(plain::heard(to, answer.map(|body| holding(body, permit))));
        }
        let next = next_location(upstream, &at, &answer)?;
        if !next.same_origin(&at) {
            headers = harmless(&headers);
        }
        drain(answer.into_body()).await;
        at = next;
    }
    Err(Error::Redirects { from: at.authority, limit: LIMIT })
}

fn first_location(to: &Endpoint, request: &Request<()>) -> Result<Location, Error> {
    let uri = request.uri().path_and_query().and_then(|target| to.uri(target));
    let target = uri.and_then(|uri| uri.path_and_query().cloned());
    let target = target.ok_or_else(|| Error::BadRequest { to: to.authority().clone() })?;
    Ok(Location { secure: to.is_secure(), authority: to.authority().clone(), target })
}

fn request_to(at: &Location, method: Method, headers: HeaderMap) -> Result<Request<Body>, Error> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = at.uri().ok_or_else(|| Error::BadRequest { to: at.authority.clone() })?;
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    Ok(request)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn next_location(upstream: &Upstream, from: &Location, answer: &Response<Body>) -> Result<Location, Error> {
    let location = answer.headers().get(LOCATION).map(|value| value.as_bytes());
    let next = location.and_then(|location| resolve(from, location));
    let next = next.ok_or_else(|| Error::BadLocation { from: from.authority.clone() })?;
    if !next.secure && (from.secure || !upstream.names_plain(&next.authority)) {
        return Err(Error::InsecureRedirect { from: from.authority.clone() });
    }
    Ok(next)
}

/// Reads away a redirect's few words, so that its connection can be used again; a long one is not worth it.
async fn drain(body: Body) {
    if body.size_hint().upper().is_none_or(|length| length <= 16 << 10) {
        let _ = tokio::time::timeout(Duration::from_secs(1), collect(body, 16 << 10)).await;
    }
}
