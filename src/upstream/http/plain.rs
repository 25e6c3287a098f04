//! Withholds credentials from plain HTTP, which only an endpoint has that the configuration names so.
//!
//! Threat: an attacker on the way reads what is sent and writes what is answered. Defence: no credential of anybody's
//! goes there, and no challenge is heard from there, since it would send clients' credentials to a realm of somebody's
//! choice; content by digest is verified as always. Exposure: tags, lists and permissions are what that somebody says.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TE, TRANSFER_ENCODING,
    USER_AGENT, VIA, WWW_AUTHENTICATE,
};
use http::{Request, Response};

use crate::upstream::Endpoint;

/// What a foreign host may see. A list of what it may not would miss `Private-Token` and its like.
const HARMLESS: [HeaderName; 12] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CACHE_CONTROL,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    USER_AGENT,
    VIA,
];

/// What is for the connection or this proxy alone.
const OF_CONNECTION: [HeaderName; 5] = [HOST, CONNECTION, TE, PROXY_AUTHORIZATION, CONTENT_LENGTH];
/// What tells of a body that is sent.
const OF_BODIES: [HeaderName; 5] = [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_ENCODING, TRANSFER_ENCODING];
/// What would have a client send credentials, then or later.
const ASKING: [HeaderName; 3] = [WWW_AUTHENTICATE, HeaderName::from_static("authentication-info"), SET_COOKIE];

/// The headers that a foreign host may see.
pub(crate) fn harmless(headers: &HeaderMap) -> HeaderMap {
    headers.iter().filter(|(name, _)| HARMLESS.contains(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// Whether `Authorization` is all that may tell who asks: every other field says how, or is for the connection.
pub(crate) fn is_told_by_authorization(headers: &HeaderMap) -> bool {
    let is_known = |name: &HeaderName| HARMLESS.contains(name) || OF_CONNECTION.contains(name);
    headers.keys().all(|name| *name == AUTHORIZATION || is_known(name))
}

/// A request as `to` may see it. A list of what it may not see would miss `Private-Token` and its like.
pub(crate) fn withheld<B>(to: &Endpoint, mut request: Request<B>) -> Request<B> {
    if !to.is_secure() {
        let headers = request.headers().iter();
        let open = headers.filter(|(name, _)| HARMLESS.contains(name) || OF_BODIES.contains(name));
        let open: HeaderMap = open.map(|(name, value)| (name.clone(), value.clone())).collect();
        *request.headers_mut() = open;
    }
    request
}

/// An answer as far as it is heard.
pub(crate) fn heard<B>(from: &Endpoint, mut answer: Response<B>) -> Response<B> {
    if !from.is_secure() {
        for name in ASKING {
            answer.headers_mut().remove(name);
        }
    }
    answer
}
