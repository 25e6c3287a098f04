//! Tells whether the answer to a ping is the registry's own 200, and no page of a server before it.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;

use crate::oci::Look;
use crate::proxy::respond;
use crate::wire::{Body, collect};

/// An answer to a ping, and whether it is the registry's own 200: it says the version of the API, or nothing but `{}`.
pub(crate) async fn judged(response: Response<Body>) -> (Response<Body>, bool) {
    const SHORT: usize = 64;
    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let is_short = length.is_some_and(|length| length <= SHORT);
    if response.status() != StatusCode::OK || !is_short {
        let is_own_word = response.status() == StatusCode::OK && says_version(response.headers());
        return (response, is_own_word);
    }
    let (parts, body) = response.into_parts();
    match collect(body, SHORT).await {
        Ok(bytes) => {
            let is_own_word = says_version(&parts.headers) || (!is_page(&parts.headers) && bytes.trim_ascii() == b"{}");
            (Response::from_parts(parts, Body::full(bytes)), is_own_word)
        }
        Err(cause) => {
            let broken = futures_util::stream::iter([Err::<Frame<Bytes>, _>(cause)]);
            (Response::from_parts(parts, Body::wrap(StreamBody::new(broken))), false)
        }
    }
}

/// A server before a registry may say the version on its own pages, too.
fn says_version(headers: &HeaderMap) -> bool {
    !is_page(headers)
        && headers.get(respond::API_VERSION).is_some_and(|value| value.as_bytes().starts_with(b"registry/"))
}

fn is_page(headers: &HeaderMap) -> bool {
    Look::of(headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())) == Look::Page
}
