//! Reads what the head of an upstream's answer says of the content behind it.

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, TRANSFER_ENCODING};
use http::{HeaderName, Response, StatusCode, Version};

use super::coding;
use crate::cache::{Fault, FaultKind, Flow, Proof, Retry, Validator};
use crate::oci::Digest;
use crate::proxy::answer;
use crate::upstream::{AnswerRoom, Endpoint};
use crate::wire::Body;

/// A longer type or entity tag is ignored: it would be kept.
const TEXT_LIMIT: usize = 512;

/// What an answer without a body proves: that this is there, of this type and length.
pub(crate) fn proof(headers: &HeaderMap) -> Proof {
    Proof { digest: digest(headers), media_type: media_type(headers), size: number(headers, &CONTENT_LENGTH) }
}

/// The digest that the registry says, if it says one.
pub(crate) fn digest(headers: &HeaderMap) -> Option<Digest> {
    let mut said = headers.get_all("docker-content-digest").iter().map(|value| value.to_str().ok()?.parse().ok());
    let first = said.next()?;
    first.filter(|_| said.all(|other| other == first))
}

/// As it was sent, with its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    text(headers, &CONTENT_TYPE).filter(|text| text.len() <= TEXT_LIMIT)
}

/// A strong tag, which a range may be made conditional on (RFC 9110, 13.1.5).
pub(crate) fn strong_tag(headers: &HeaderMap) -> Option<String> {
    text(headers, &ETAG).filter(|tag| tag.starts_with('"') && tag.len() <= TEXT_LIMIT)
}

/// An open body that was asked for, as a span or as the whole.
///
/// # Errors
/// [`answer::Misfit`], where it is not what was asked for.
pub(crate) fn flow(response: Response<Body>, endpoint: &Endpoint, span: Option<Interval>) -> Result<Flow, Fault> {
    let headers = response.headers();
    let validator = strong_tag(headers).map(|tag| Validator { tag, endpoint: endpoint.name().into() });
    let endpoint = Some(endpoint.name().into());
    let proof = proof(headers);
    if let Some(ContentRange { at, to, total }) = part(&response, span)? {
        let (to, proof, body) = (Some(to), Proof { size: total, ..proof }, response.into_body());
        return Ok(Flow {
            at,
            to,
            total,
            ranges: Some(true),
            is_coded: false,
            is_open_ended: false,
            validator,
            endpoint,
            proof,
            body,
        });
    }
    let said = text(headers, &ACCEPT_RANGES);
    let ranges = match said.as_deref() {
        _ if span.is_some() => Some(false),
        Some("none") => Some(false),
        Some(_) => Some(true),
        None => None,
    };
    let total = proof.size.or_else(|| http_body::Body::size_hint(response.body()).exact());
    let proof = Proof { size: total, ..proof };
    // HTTP/2 and chunks have an end of their own (RFC 9112, 6.3).
    let is_open_ended =
        total.is_none() && response.version() < Version::HTTP_2 && !headers.contains_key(TRANSFER_ENCODING);
    let body = response.into_body();
    Ok(Flow { at: 0, to: None, total, ranges, is_coded: false, is_open_ended, validator, endpoint, proof, body })
}

/// The same of a whole that is said to be coded, as what `wanted` says that it is.
pub(crate) async fn decoded(headers: &HeaderMap, flow: Flow, wanted: &Digest, room: AnswerRoom<'_>) -> Flow {
    if flow.to.is_some() || !coding::is_gzip(headers) {
        return flow;
    }
    let (body, is_coded) = coding::blob(headers, flow.body, wanted, room).await;
    if !is_coded {
        return Flow { body, ..flow };
    }
    let total = http_body::Body::size_hint(&body).exact();
    let proof = Proof { size: total, ..flow.proof };
    Flow { total, ranges: Some(false), is_coded, validator: None, proof, body, ..flow }
}

/// The end of a content whose rest was asked for, from `from` on, and that has no more (416, RFC 9110, 15.5.17): an
/// upstream that does not say how long it is may have broken off after the last byte. `None` for any other fault, and
/// for a question from the beginning.
///
/// # Errors
/// [`answer::Misfit`], where it does not say so.
pub(crate) fn nothing_more(fault: &Fault, from: u64) -> Option<Result<Flow, Fault>> {
    let FaultKind::NoSuchPart(total) = fault.kind else { return None };
    if from == 0 {
        return None;
    }
    Some(match total.filter(|total| *total <= from) {
        Some(total) => Ok(Flow {
            at: total,
            to: Some(total),
            total: Some(total),
            ranges: Some(true),
            is_coded: false,
            is_open_ended: false,
            validator: None,
            endpoint: None,
            proof: Proof { size: Some(total), ..Proof::default() },
            body: Body::empty(),
        }),
        None => {
            let why = "no such part, where it should have more";
            Err(Fault::new(Retry::Again, answer::Misfit { status: StatusCode::RANGE_NOT_SATISFIABLE, why }).unfit())
        }
    })
}

/// How long the content is, as a 416 says, in bytes.
pub(crate) fn length_beyond(headers: &HeaderMap) -> Option<u64> {
    text(headers, &CONTENT_RANGE).and_then(|said| digits(said.strip_prefix("bytes */")?))
}

/// The span that was asked for: from where, and to where (exclusive) if not to the end.
pub(crate) type Interval = (u64, Option<u64>);

/// Which part of the content a successful answer is, as it was asked for; `None` for the whole, which a server may
/// send to any question.
///
/// Threat: a part that is taken for the whole, or for another part. So it begins where it was asked to, ends no later,
/// is as long as it says, and only a question for a part gets one.
///
/// # Errors
/// [`answer::Misfit`].
pub(crate) fn part(response: &Response<Body>, span: Option<Interval>) -> Result<Option<ContentRange>, Fault> {
    let misfit = |why| Fault::new(Retry::Again, answer::Misfit { status: response.status(), why }).unfit();
    let headers = response.headers();
    let length = number(headers, &CONTENT_LENGTH).or_else(|| http_body::Body::size_hint(response.body()).exact());
    let range = headers.contains_key(CONTENT_RANGE).then(|| content_range(headers));
    match (response.status(), range, span) {
        (StatusCode::OK, None, _) => Ok(None),
        // It has no meaning there (RFC 9110, 14.4), unless what it says is not so.
        (StatusCode::OK, Some(Some(ContentRange { at: 0, to, total: Some(total) })), _)
            if to == total && length.is_none_or(|length| length == total) =>
        {
            Ok(None)
        }
        (StatusCode::OK, Some(_), _) => Err(misfit("a part that is said to be the whole")),
        (StatusCode::PARTIAL_CONTENT, Some(Some(range)), Some((from, end))) => {
            let is_it = range.at == from && end.is_none_or(|end| range.to <= end);
            let is_as_long = length.is_none_or(|length| length == range.to - range.at);
            match (is_it, is_as_long) {
                (true, true) => Ok(Some(range)),
                (false, _) => Err(misfit("another part than the one asked for")),
                (true, false) => Err(misfit("a part that is not as long as it says")),
            }
        }
        (StatusCode::PARTIAL_CONTENT, _, Some(_)) => Err(misfit("a part that does not say which")),
        (StatusCode::PARTIAL_CONTENT, _, None) => Err(misfit("a part where the whole was asked for")),
        _ => Err(misfit("no answer to a question for content")),
    }
}

/// `Content-Range: bytes 5-9/10`: where it begins, where it ends (exclusive), and the whole length if it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    at: u64,
    to: u64,
    total: Option<u64>,
}

/// `None` where it does not say what the RFC lets it say, or says it twice.
fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let mut said = headers.get_all(CONTENT_RANGE).iter();
    let (Some(range), None) = (said.next(), said.next()) else { return None };
    let (unit, range) = range.to_str().ok()?.split_once(' ')?;
    let (span, total) = range.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (at, last) = (digits(first)?, digits(last)?);
    let total = if total == "*" { None } else { Some(digits(total)?) };
    let is_sound = unit.eq_ignore_ascii_case("bytes") && at <= last && total.is_none_or(|total| last < total);
    Some(ContentRange { at, to: last.checked_add(1)?, total }).filter(|_| is_sound)
}

/// A number without a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
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
            ("Bytes 5-9/*", Some((5, 10, None))),
            ("bytes 9-5/10", None),
            ("bytes 5-10/10", None),
            ("bytes */10", None),
            ("bytes 5-9/ten", None),
            ("bytes 5-9", None),
            ("bytes +5-9/10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 0-9/99999999999999999999999", None),
            ("items 1-2/3", None),
        ];
        for (header, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(header));
            let found = content_range(&headers).map(|range| (range.at, range.to, range.total));
            assert_eq!(found, expected, "{header}");
            headers.append(CONTENT_RANGE, HeaderValue::from_static(header));
            assert_eq!(content_range(&headers), None, "{header} twice");
        }
    }

    #[test]
    fn an_answer_has_to_fit_the_question() {
        let (whole, rest, piece) = (None, Some((5, None)), Some((5, Some(8))));
        // The status, Content-Range, Content-Length, and for each question: whether it is taken, and as a part or not.
        let (part, all) = (Some(true), Some(false));
        let table = [
            (200, None, 10, [all, all, all]),
            (200, Some("bytes 0-9/10"), 10, [all, all, all]),
            (200, Some("bytes 5-9/10"), 5, [None, None, None]),
            (200, Some("bytes 0-4/10"), 5, [None, None, None]),
            (200, Some("bytes 0-9/10"), 5, [None, None, None]),
            (206, Some("bytes 5-9/10"), 5, [None, part, None]),
            (206, Some("bytes 5-7/10"), 3, [None, part, part]),
            (206, Some("bytes 5-6/10"), 2, [None, part, part]),
            (206, Some("bytes 5-7/10"), 4, [None, None, None]),
            (206, Some("bytes 4-7/10"), 4, [None, None, None]),
            (206, Some("bytes 6-7/10"), 2, [None, None, None]),
            (206, Some("bytes 0-4999/99999999999999"), 5000, [None, None, None]),
            (206, None, 5, [None, None, None]),
            (204, None, 0, [None, None, None]),
            (203, None, 10, [None, None, None]),
        ];
        for (status, range, length, expected) in table {
            for (span, expected) in [whole, rest, piece].into_iter().zip(expected) {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response.headers_mut().insert(CONTENT_LENGTH, length.into());
                if let Some(range) = range {
                    response.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_static(range));
                }
                let taken = super::part(&response, span).ok().map(|part| part.is_some());
                assert_eq!(taken, expected, "{status} {range:?} {length} to {span:?}");
            }
        }
    }
}
