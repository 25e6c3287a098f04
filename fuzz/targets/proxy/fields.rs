//! Single fields of a head: who asks, and which part of a content came.

use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderValue, Response, StatusCode};

use super::stage::{authority, on_stage};
use crate::fuzzing::naive;
use crate::oci::Authorization;
use crate::proxy::clients::Offer;
use crate::proxy::pull::answer_head;
use crate::proxy::tokens::local::Holder;
use crate::upstream::Endpoint;
use crate::wire::Body;

/// A header's value: a user and a password are what Basic says (RFC 7617), a token what Bearer says (RFC 6750), for
/// everything that reads it. Nothing but the very token that was minted is one of ours, whatever of it is changed.
pub fn authorization(data: &[u8]) {
    if let Ok(header) = HeaderValue::from_bytes(data) {
        let pair = pair(data);
        let read = Authorization::parse(data);
        assert_eq!(read.pair(), pair.as_deref());
        assert_eq!(read.bearer().map(str::to_owned), bearer(&header));
        assert!(read.pair().is_none() || read.bearer().is_none());
        if let Ok(offer) = Offer::parse(&header) {
            let text = format!("{}:{}", offer.user, offer.password.expose());
            assert_eq!(Some(text.as_bytes()), pair.as_deref());
            assert!(!offer.user.is_empty() && !text.chars().any(char::is_control), "{offer:?}");
        }
    }
    on_stage(|stage| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for holder in [Holder::Nobody, Holder::Known([7; 32])] {
            let token = stage.proxy.local.mint("quay.io", holder, now);
            let text = String::from_utf8_lossy(data);
            let mut changed = token.clone().into_bytes();
            for change in data.chunks_exact(2) {
                let at = usize::from(change[0]) % changed.len();
                changed[at] ^= change[1];
            }
            for other in [text, String::from_utf8_lossy(&changed)] {
                let said = stage.proxy.local.validate("quay.io", &other, now);
                assert_eq!(said.ok(), (other == token).then_some(holder), "{other:?}");
            }
        }
    });
}

fn bearer(header: &HeaderValue) -> Option<String> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn pair(header: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(header).ok()?;
    let at = text.find(' ')?;
    let is_basic = text[..at].eq_ignore_ascii_case("basic");
    if is_basic { BASE64_STANDARD.decode(text[at..].trim()).ok() } else { None }
}

/// Lines: a status and the span that was asked for, `Content-Range`, `Content-Length`. A part is taken only where it is
/// the one that was asked for, as long as it says, and does not contradict itself; the whole only where nothing says
/// that it is a part.
pub fn content_range(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let asked = lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let (status, asked) = asked.split_once(' ').unwrap_or((asked, ""));
    let status = if status == "200" { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    let span = asked.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse::<u64>().ok())));
    let mut response = Response::new(Body::full(b"part".to_vec()));
    *response.status_mut() = status;
    let [range, length] = [CONTENT_RANGE, CONTENT_LENGTH].map(|name| {
        let line = lines.next().filter(|line| !line.is_empty())?;
        response.headers_mut().insert(name, HeaderValue::from_bytes(line).ok()?);
        std::str::from_utf8(line).ok()
    });
    let has_range = response.headers().contains_key(CONTENT_RANGE);
    let Ok(flow) = answer_head::flow(response, &Endpoint::of_host(&authority()), span) else { return };
    let read = || {
        let (unit, rest) = range?.split_once(' ')?;
        let (part, total) = rest.split_once('/')?;
        let (first, last) = part.split_once('-')?;
        let total = if total == "*" { None } else { Some(naive::number(total)?) };
        unit.eq_ignore_ascii_case("bytes").then_some((naive::number(first)?, naive::number(last)?, total))
    };
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(4_u64);
    let (at, to, total) = (u128::from(flow.at), flow.to.map(u128::from), flow.total.map(u128::from));
    if status == StatusCode::OK {
        assert_eq!((at, to), (0, None));
        assert!(!has_range || read().is_some_and(|(first, last, total)| first == 0 && total == Some(last + 1)));
        return;
    }
    let (first, last, whole) = read().expect("a part says which");
    assert_eq!((at, to, total), (first, Some(last + 1), whole));
    assert!(first <= last && whole.is_none_or(|whole| last < whole), "{range:?}");
    assert_eq!(u128::from(length), last + 1 - first, "{range:?}");
    let (from, end) = span.expect("a part was asked for");
    assert!(at == u128::from(from) && end.is_none_or(|end| last < u128::from(end)), "{range:?} for {span:?}");
}
