//! What the head of an upstream's answer says of the content behind it.

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap};
use http::{HeaderName, Response, StatusCode};

use super::answer;
use crate::cache::{Fault, Flow, Proof, Retry, Validator};
use crate::oci::Digest;
use crate::upstream::Endpoint;
use crate::wire::Body;

/// A type or a tag that is longer is none: it would be kept.
const TEXT_LIMIT: usize = 512;

/// What an answer without a body proves: that this is there, of this type and length.
pub(super) fn proof(headers: &HeaderMap) -> Proof {
    Proof { digest: digest(headers), media_type: media_type(headers), size: number(headers, &CONTENT_LENGTH) }
}

/// The digest that the registry says.
pub(super) fn digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// As it was sent, with its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    text(headers, &CONTENT_TYPE).filter(|text| text.len() <= TEXT_LIMIT)
}

/// A strong tag, which a range may be made conditional on (RFC 9110, 13.1.5).
pub(super) fn strong_tag(headers: &HeaderMap) -> Option<String> {
    text(headers, &ETAG).filter(|tag| tag.starts_with('"') && tag.len() <= TEXT_LIMIT)
}

/// An open body that was asked for from `from` on, as a range or not.
///
/// # Errors
/// A part that is not the one asked for.
pub(super) fn flow(response: Response<Body>, endpoint: &Endpoint, from: u64, is_ranged: bool) -> Result<Flow, Fault> {
    let headers = response.headers();
    let validator = strong_tag(headers).map(|tag| Validator { tag, endpoint: endpoint.name().into() });
    let endpoint = Some(endpoint.name().into());
    if response.status() == StatusCode::PARTIAL_CONTENT {
        let range = content_range(headers).filter(|range| range.at <= from);
        let ContentRange { at, to, total } = range.ok_or_else(|| Fault::new(Retry::Again, answer::BadRange))?;
        let (to, body) = (Some(to), response.into_body());
        return Ok(Flow { at, to, total, ranges: Some(true), validator, endpoint, body });
    }
    let said = text(headers, &ACCEPT_RANGES);
    let ranges = match said.as_deref() {
        _ if is_ranged => Some(false),
        Some("none") => Some(false),
        Some(_) => Some(true),
        None => None,
    };
    let length = number(headers, &CONTENT_LENGTH).or_else(|| http_body::Body::size_hint(response.body()).exact());
    Ok(Flow { at: 0, to: None, total: length, ranges, validator, endpoint, body: response.into_body() })
}

/// `Content-Range: bytes 5-9/10`: where it begins, where it ends (exclusive), and the whole length if it is said.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    at: u64,
    to: u64,
    total: Option<u64>,
}

fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let range = text(headers, &CONTENT_RANGE)?;
    let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (at, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = total.trim().parse().ok();
    let is_sound = at <= last && total.is_none_or(|total| last < total);
    is_sound.then(|| ContentRange { at, to: last.saturating_add(1), total })
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn content_range_says_where_a_part_begins() {
        let table = [
            ("bytes 5-9/10", Some((5, 10, Some(10)))),
            ("bytes 5-9/*", Some((5, 10, None))),
            ("bytes 9-5/10", None),
            ("bytes 5-10/10", None),
            ("bytes */10", None),
            ("items 1-2/3", None),
        ];
        for (header, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(header));
            let found = content_range(&headers).map(|range| (range.at, range.to, range.total));
            assert_eq!(found, expected, "{header}");
        }
    }
}
