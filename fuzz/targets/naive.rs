//! What other programs make of a path, a query or a time: plain code that shares nothing with the proxy's own.
//!
//! Slow and obvious on purpose. A target compares the two; where they differ, one is wrong.

use std::collections::BTreeSet;

/// So many readings of one path are looked at.
const READINGS: usize = 256;

/// The bytes behind percent-encoding, decoded once. What is no escape stays.
pub(crate) fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'%'
            && let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2))
        {
            bytes.push(u8::try_from(high * 16 + low).unwrap());
            at += 3;
        } else {
            bytes.push(text[at]);
            at += 1;
        }
    }
    bytes
}

/// Every path that some server, or a gateway and a server behind it, could act on when it is sent `path`: what
/// decoding, merging slashes, resolving dot segments (by the RFC and as Go does), cutting parameters, and turning
/// backslashes around come to, in any order.
pub(crate) fn readings(path: &[u8]) -> BTreeSet<Vec<u8>> {
    let steps = [decoded, merged, dotless, cleaned, bare, turned, cut];
    let mut seen = BTreeSet::from([path.to_vec()]);
    let mut next = vec![path.to_vec()];
    while let Some(path) = next.pop() {
        for step in steps {
            let other = step(&path);
            if seen.len() < READINGS && seen.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    seen
}

/// `//` is `/`.
fn merged(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|next, before| *next == b'/' && *before == b'/');
    merged
}

/// RFC 3986, 5.2.4.
fn dotless(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut rest = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let is_dots = matches!(segment, b"." | b"..");
        if segment == b".." {
            segments.pop();
        }
        match (is_dots, rest.peek()) {
            (true, None) => segments.push(b""),
            (true, Some(_)) => {}
            (false, _) => segments.push(segment),
        }
    }
    [b"/", segments.join(&b'/').as_slice()].concat()
}

/// Go's `path.Clean`.
fn cleaned(path: &[u8]) -> Vec<u8> {
    dotless(&merged(path))
}

/// Without what follows a `;` in a segment.
fn bare(path: &[u8]) -> Vec<u8> {
    let plain = path.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next().unwrap());
    plain.collect::<Vec<_>>().join(&b'/')
}

fn turned(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// Up to what a program may take for the end: a query, a fragment, the end of a C string.
fn cut(path: &[u8]) -> Vec<u8> {
    path.split(|byte| matches!(byte, b'?' | b'#' | 0)).next().unwrap().to_vec()
}

/// Whether a path is one of the registry protocol, to a server that is not strict about case.
pub(crate) fn is_v2(path: &[u8]) -> bool {
    path.len() >= 3 && path[..3].eq_ignore_ascii_case(b"/v2") && matches!(path.get(3), None | Some(b'/'))
}

/// The pairs of a form (URL Standard, application/x-www-form-urlencoded).
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    let word = |text: &str| {
        let bytes: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
        String::from_utf8_lossy(&decoded(&bytes)).into_owned()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.find('=') {
            Some(at) => (word(&pair[..at]), word(&pair[at + 1..])),
            None => (word(pair), String::new()),
        })
        .collect()
}

/// JSON, past what is no UTF-8: the proxy does not look into what it has no use for, nor do Go's programs mind.
pub(crate) fn json(bytes: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_str(&String::from_utf8_lossy(bytes)).ok()
}

/// Whether `%` begins an escape wherever it stands.
pub(crate) fn is_escaped(text: &str) -> bool {
    let is_escape = |tail: &str| tail.len() >= 2 && tail.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    text.split('%').skip(1).all(is_escape)
}

/// A number without a sign, as large as it may be.
pub(crate) fn number(text: &str) -> Option<u128> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| text.bytes().fold(0_u128, |sum, byte| sum.saturating_mul(10).saturating_add((byte - b'0').into())))
}
