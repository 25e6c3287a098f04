//! Single fields of a head: who asks, and which part of a content came.

use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderValue, Response, StatusCode};

use super::stage::{authority, on_stage};
use crate::fuzzing::naive;
use crate::proxy::guests::{Holder, Offer};
use crate::proxy::{bearers, said};
use crate::upstream::Endpoint;
use crate::wire::Body;

/// A header's value: a user and a password are what Basic says (RFC 7617), for everything that reads it. Nothing but the
/// very token that was minted is one of ours, whatever of it is changed.
pub fn authorization(data: &[u8]) {
    if let Ok(header) = HeaderValue::from_bytes(data) {
        let pair = pair(data);
        assert_eq!(bearers::basic(data).map(|pair| pair.to_vec()), pair);
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

fn pair(header: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(header).ok()?;
    let at = text.find(' ')?;
    let is_basic = text[..at].to_ascii_lowercase() == "basic";
    if is_basic { BASE64_STANDARD.decode(text[at..].trim()).ok() } else { None }
}

/// Lines: the place that was asked from, `Content-Range`, `Content-Length`. A part is taken only where it holds that
/// place and does not contradict itself.
pub fn content_range(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let from = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.parse::<u64>().ok()).unwrap_or(0);
    let (range, length) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut response = Response::new(Body::full(b"part".to_vec()));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    for (name, value) in [(CONTENT_RANGE, range), (CONTENT_LENGTH, length)] {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        response.headers_mut().insert(name, value);
    }
    let Ok(flow) = said::flow(response, &Endpoint::of_host(&authority()), Some((from, None))) else { return };
    let text = std::str::from_utf8(range).expect("a range is text");
    let (span, total) = text.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).expect("a range of bytes");
    let (first, last) = span.split_once('-').expect("a first and a last byte");
    let number = |text: &str| naive::number(text.trim().trim_start_matches('+')).expect("a number");
    assert_eq!(
        (u128::from(flow.at), flow.to.map(u128::from)),
        (number(first), Some((number(last) + 1).min(u64::MAX.into())))
    );
    assert!(flow.at <= from && flow.to.is_some_and(|to| to > flow.at), "{text:?}");
    match flow.total {
        Some(whole) => assert!(u128::from(whole) == number(total) && flow.to.is_some_and(|to| to <= whole), "{text:?}"),
        None => assert!(total.trim().parse::<u64>().is_err(), "{text:?}"),
    }
}
