//! Serves content to a client: whole, in part, in parts, or not at all because the client has it.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use http::{Method, Response, StatusCode};

use crate::cache::{Flow, Follower, Passing, Stored, Waiter};
use crate::oci::Digest;
use crate::proxy::respond;
use crate::proxy::served::ServedAnswer;
use crate::wire::{Asked, Body, Multipart, RangeSpec, Span};

/// Where the bytes are.
#[derive(Clone)]
pub(crate) enum Payload {
    /// In memory.
    Memory(Bytes),
    /// In the store.
    Stored(Stored),
    /// On their way, with the length in bytes.
    Filling(Waiter, u64),
}

impl Payload {
    fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Stored(blob) => blob.len(),
            Self::Filling(_, total) => *total,
        }
    }

    /// How many parts are asked for ahead of their turn: a fill fetches neighbours together if it knows of them.
    fn depth(&self) -> usize {
        if matches!(self, Self::Filling(..)) { 512 } else { 1 }
    }

    fn part(&self, span: Span) -> Body {
        match self {
            Self::Memory(bytes) => {
                let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Body::full(bytes.slice(position(span.from)..position(span.to)))
            }
            Self::Stored(blob) => Body::wrap(blob.body(span)),
            Self::Filling(fill, _) => Body::wrap(Follower::of(fill, Some(span))),
        }
    }
}

/// The headers that describe a content, always there: type, digest, length, and that ranges work.
pub(crate) fn describe(headers: &mut HeaderMap, digest: &Digest, media_type: &str, length: Option<u64>) {
    let tag = format!("\"{digest}\"");
    let set = |headers: &mut HeaderMap, name: http::HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(headers, CONTENT_TYPE, media_type);
    set(headers, respond::CONTENT_DIGEST, tag.trim_matches('"'));
    set(headers, ETAG, &tag);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(respond::API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// Answers a HEAD by what is known of the content, as the request's conditions ask (RFC 9110, 13.1.2).
pub(crate) fn head(asked: &HeaderMap, digest: &Digest, media_type: &str, length: Option<u64>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    describe(response.headers_mut(), digest, media_type, length);
    if has_it_already(asked, digest) { not_modified(response) } else { response }
}

fn not_modified(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().remove(CONTENT_LENGTH);
    response
}

/// Answers a GET or HEAD for `content` as the request's conditions and ranges ask.
pub(crate) fn answer(
    method: &Method,
    asked: &HeaderMap,
    digest: &Digest,
    media_type: &str,
    content: &Payload,
) -> ServedAnswer {
    let total = content.length();
    let mut response = Response::new(Body::empty());
    describe(response.headers_mut(), digest, media_type, Some(total));
    if has_it_already(asked, digest) {
        return not_modified(response).into();
    }
    if *method == Method::HEAD {
        return response.into();
    }
    match spans(asked, digest, total).as_deref() {
        None => *response.body_mut() = content.part(Span { from: 0, to: total }),
        Some([]) => return respond::unsatisfiable(total).into(),
        Some([span]) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            if let Ok(range) = HeaderValue::from_str(&format!("bytes {}-{}/{total}", span.from, span.to - 1)) {
                response.headers_mut().insert(CONTENT_RANGE, range);
            }
            response.headers_mut().insert(CONTENT_LENGTH, span.len().into());
            *response.body_mut() = content.part(*span);
        }
        Some(spans) => {
            let content = content.clone();
            let multipart =
                Multipart::new(media_type, total, spans.to_vec(), content.depth(), move |span| content.part(span));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Multipart::CONTENT_TYPE));
            response.headers_mut().insert(CONTENT_LENGTH, multipart.len().into());
            *response.body_mut() = Body::wrap(multipart);
        }
    }
    response.into()
}

/// The spans to send; `None` for the whole. `If-Range` with another tag than this content's means the whole (RFC 9110, 13.1.5). An
/// empty content is sent as a whole, whatever is asked of it: so Go's server does, and clients that add `bytes=0-` to
/// everything take a 416 for a failure.
fn spans(asked: &HeaderMap, digest: &Digest, total: u64) -> Option<Vec<Span>> {
    let ours = |value: &HeaderValue| value.to_str().is_ok_and(|tag| tag == format!("\"{digest}\""));
    if total == 0 || asked.get(IF_RANGE).is_some_and(|value| !ours(value)) {
        return None;
    }
    Asked::parse(asked.get(RANGE).and_then(|value| value.to_str().ok())).within(total)
}

/// Whether a request is for parts that all lie outside of the content.
pub(crate) fn is_beyond(asked: &HeaderMap, digest: &Digest, total: u64) -> bool {
    spans(asked, digest, total).is_some_and(|spans| spans.is_empty())
}

/// From where to where (exclusive) a request for one part wants it; `None` for anything else, and for a part whose
/// place depends on the length.
pub(crate) fn one_part(asked: &HeaderMap, digest: &Digest) -> Option<(u64, Option<u64>)> {
    let ours = |value: &HeaderValue| value.to_str().is_ok_and(|tag| tag == format!("\"{digest}\""));
    if asked.get(IF_RANGE).is_some_and(|value| !ours(value)) {
        return None;
    }
    match Asked::parse(asked.get(RANGE).and_then(|value| value.to_str().ok())) {
        Asked::Parts(parts) => match parts.as_slice() {
            [RangeSpec::Between(first, last)] if first <= last => Some((*first, Some(last.saturating_add(1)))),
            [RangeSpec::From(first)] if *first > 0 => Some((*first, None)),
            _ => None,
        },
        Asked::Whole => None,
    }
}

/// A part on its way from upstream to the client alone; `None` if it does not say what it is a part of. One that is all
/// of the content is held back until its digest matched.
pub(crate) fn passing_part(flow: Flow, digest: &Digest, media_type: &str) -> Option<Response<Body>> {
    let (to, total) = (flow.to?, flow.total?);
    let is_whole = flow.at == 0 && to == total;
    let body = if is_whole { Body::wrap(Passing::new(flow.body, *digest)) } else { flow.body };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    describe(response.headers_mut(), digest, media_type, to.checked_sub(flow.at));
    let range = format!("bytes {}-{}/{total}", flow.at, to.checked_sub(1)?);
    response.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_str(&range).ok()?);
    Some(response)
}

fn has_it_already(asked: &HeaderMap, digest: &Digest) -> bool {
    if !asked.contains_key(IF_NONE_MATCH) {
        return false;
    }
    let tag = digest.to_string();
    let bare = |item: &str| item.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    let values = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| bare(item) == tag || item.trim() == "*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn ask(headers: &[(http::HeaderName, &str)]) -> Response<Body> {
        let bytes = Bytes::from_static(b"0123456789");
        let mut asked = HeaderMap::new();
        for (name, value) in headers {
            asked.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        rendered(answer(&Method::GET, &asked, &digest, "text/plain", &Payload::Memory(bytes)))
    }

    fn rendered(answer: ServedAnswer) -> Response<Body> {
        match answer {
            ServedAnswer::Message(response) => response,
            ServedAnswer::Failure(failure) => failure.render().response,
            ServedAnswer::Refused(..) => panic!("nobody was asked"),
        }
    }

    async fn read(response: Response<Body>) -> String {
        String::from_utf8(crate::wire::collect(response.into_body(), 10_000).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn ranges_are_answered_as_asked() {
        let digest = format!("\"{}\"", Digest::of(Algorithm::Sha256, b"0123456789"));
        let cases: [(&[(http::HeaderName, &str)], u16, &str); 7] = [
            (&[], 200, "0123456789"),
            (&[(RANGE, "bytes=2-4")], 206, "234"),
            (&[(RANGE, "bytes=-3")], 206, "789"),
            (&[(RANGE, "bytes=0-1,2-4")], 206, "01234"),
            (&[(RANGE, "bytes=2-4"), (IF_RANGE, "\"other\"")], 200, "0123456789"),
            (&[(RANGE, "bytes=2-4"), (IF_RANGE, &digest)], 206, "234"),
            (&[(IF_NONE_MATCH, &digest)], 304, ""),
        ];
        for (headers, status, body) in cases {
            let response = ask(headers);
            assert_eq!(response.status(), status, "{headers:?}");
            assert_eq!(read(response).await, body, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn parts_that_do_not_touch_come_as_multipart() {
        let response = ask(&[(RANGE, "bytes=0-1,8-9")]);
        assert_eq!(response.headers()[CONTENT_TYPE], Multipart::CONTENT_TYPE);
        let length: usize = response.headers()[CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
        assert_eq!(read(response).await.len(), length);
    }

    #[tokio::test]
    async fn an_empty_content_is_a_whole_whatever_part_is_asked_for() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        for range in ["bytes=0-", "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=0-1,3-4", "bytes=5-1"] {
            let asked = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(range))]);
            let empty = Payload::Memory(Bytes::new());
            let response = rendered(answer(&Method::GET, &asked, &digest, "text/plain", &empty));
            assert_eq!(response.status(), StatusCode::OK, "{range}");
            assert_eq!(response.headers()[CONTENT_LENGTH], "0", "{range}");
            assert!(!response.headers().contains_key(CONTENT_RANGE) && !is_beyond(&asked, &digest, 0), "{range}");
            assert_eq!(read(response).await, "", "{range}");
        }
    }

    #[test]
    fn what_cannot_be_satisfied_is_416_with_the_length() {
        let response = ask(&[(RANGE, "bytes=10-")]);
        assert_eq!(response.status(), 416);
        assert_eq!(response.headers()[CONTENT_RANGE], "bytes */10");
    }
}
