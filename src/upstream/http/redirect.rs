//! Follows redirects on our side: a client never learns of a CDN, and a CDN never sees credentials.
//!
//! Threat: a registry that redirects to an inside address, to plain http, or to a host that collects tokens.
//! Defence: every hop is dialled under the address rules, https stays https, plain http leads to no other plain http
//! but what the configuration names, and what leaves the first scheme,
//! host and port is a short list of harmless headers, for good.

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
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
    /// The hosts other than the first that were asked on the way, the last one included, and for which path.
    pub elsewhere: Vec<(Authority, String)>,
}

/// Where another host has refused for want of a token; an extension of that refusal.
#[derive(Clone, Debug)]
pub(crate) struct LedTo {
    at: Location,
    /// As [`FinalHop::elsewhere`].
    elsewhere: Vec<(Authority, String)>,
}

const LIMIT: usize = 10;
/// A redirect's few words, and how long they may take where the next request is for the same connection.
const WORDS: usize = 16 << 10;
const SOON: Duration = Duration::from_millis(100);
/// And elsewhere, while nobody waits for them.
const LATER: Duration = Duration::from_secs(1);

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
        let request = plain::withheld(to, request);
        let first = first_location(to, &request)?;
        follow(self, to, &first, (first.clone(), Vec::new()), request, downloads).await
    }

    /// The same again from where the way has led, by an `authorization` that is for nobody in particular and for that host
    /// alone.
    ///
    /// # Errors
    /// As [`Upstream::download`].
    pub(crate) async fn download_at(
        &self,
        to: &Endpoint,
        led: &LedTo,
        authorization: HeaderValue,
        request: Request<()>,
        downloads: Downloads,
    ) -> Result<Response<Body>, Error> {
        let first = first_location(to, &request)?;
        let (mut parts, ()) = request.into_parts();
        parts.headers = harmless(&parts.headers);
        parts.headers.insert(AUTHORIZATION, authorization);
        let from = (led.at.clone(), led.elsewhere.clone());
        follow(self, to, &first, from, Request::from_parts(parts, ()), downloads).await
    }
}

impl LedTo {
    /// The host.
    pub(crate) fn authority(&self) -> &Authority {
        &self.at.authority
    }

    /// The URL, where a client may be sent there: a registry's, which holds no secret of the caller.
    pub(crate) fn open_url(&self) -> Option<String> {
        let is_registrys = self.at.target.path().starts_with("/v2/") && self.at.target.query().is_none();
        self.at.uri().filter(|_| self.at.secure && is_registrys).map(|uri| uri.to_string())
    }
}

async fn follow(
    upstream: &Upstream,
    to: &Endpoint,
    first: &Location,
    (mut at, mut elsewhere): (Location, Vec<(Authority, String)>),
    request: Request<()>,
    downloads: Downloads,
) -> Result<Response<Body>, Error> {
    let (method, mut headers) = (request.method().clone(), request.headers().clone());
    let follows = method == Method::GET || method == Method::HEAD;
    let is_download = downloads != Downloads::Uncounted;
    for redirects in 0..=LIMIT {
        let at_home = at.same_origin(first);
        let pool = if at_home { upstream.pools().to_endpoint(to) } else { upstream.pools().to_host(&at.authority) };
        let request = request_to(&at, method.clone(), headers.clone())?;
        upstream.admit(to, &at.authority, request.headers()).await?;
        let permit = upstream.slots().take(&at.authority, downloads).await?;
        let begun = Instant::now();
        let outcome = upstream.exchange(pool, &at.authority, request, downloads.into(), is_download).await;
        let tells = Evidence::is_telling(&method, outcome.as_ref().map(Response::status));
        if tells && at_home {
            upstream.note(to, Some(&at.target), begun, outcome.as_ref());
        } else if tells {
            upstream.note_elsewhere(to, &at.authority, begun, outcome.as_ref());
        }
        let mut answer = outcome?;
        if !at_home {
            elsewhere.push((at.authority.clone(), at.target.path().to_owned()));
        }
        if !follows || !is_redirect(answer.status()) {
            if !at_home && answer.status() == StatusCode::UNAUTHORIZED {
                answer.extensions_mut().insert(LedTo { at: at.clone(), elsewhere: elsewhere.clone() });
            }
            answer.extensions_mut().insert(FinalHop { authority: at.authority, redirects, elsewhere });
            return Ok(plain::heard(to, answer.map(|body| holding(body, permit))));
        }
        let next = next_location(upstream, &at, &answer)?;
        if !next.same_origin(&at) {
            headers = harmless(&headers);
        }
        drain(answer.into_body(), next.same_origin(&at)).await;
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

/// Reads away a redirect's few words, so that its connection can be used again; many are not worth it. They are waited for
/// where the connection is wanted at once, and no longer than they take where they are there: some servers announce words
/// that they never send.
async fn drain(body: Body, is_wanted: bool) {
    if body.is_end_stream() || body.size_hint().upper().is_some_and(|length| length > WORDS as u64) {
        return;
    }
    let mut reading = Box::pin(collect(body, WORDS));
    if is_wanted && tokio::time::timeout(SOON, reading.as_mut()).await.is_ok() {
        return;
    }
    tokio::spawn(async move {
        let _ = tokio::time::timeout(LATER, reading).await;
    });
}
