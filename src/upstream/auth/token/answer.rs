//! Reads a token service's answer: the token, and how long it may be used.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use crate::host::Secret;
use crate::oci::document;

/// What a token lives where nothing is said, and the least where too little is (distribution-spec).
const LEAST: Duration = Duration::from_secs(60);
/// No token is kept for longer than this, whatever is said.
const MOST: Duration = Duration::from_secs(12 * 3600);
/// Clocks differ: a token that seems to be old is used for a moment nevertheless.
const MOMENT: Duration = Duration::from_secs(10);

/// A token, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// `Bearer ...`, marked as sensitive.
    pub(crate) header: HeaderValue,
    /// How long to use it: four fifths of what it has left to live.
    pub(crate) keep: Duration,
    /// What it has left to live.
    pub(crate) left: Duration,
}

/// What a token service says. A field that has another type than it should counts as not there: token services are written
/// in many languages, and the token is what counts.
#[derive(Deserialize)]
pub(crate) struct TokenDocument {
    #[serde(default, deserialize_with = "lenient")]
    token: Option<Secret>,
    #[serde(default, deserialize_with = "lenient")]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "lenient")]
    expires_in: Option<f64>,
    #[serde(default, deserialize_with = "lenient")]
    issued_at: Option<String>,
}

/// Reads a value of the right type, or nothing.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient<T> {
        Right(T),
        Other(IgnoredAny),
    }
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Right(value) => Some(value),
        Lenient::Other(_) => None,
    })
}

impl TokenDocument {
    /// Parses an answer's body; `None` where it is no JSON object.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        document(body)
    }

    /// Its tokens: the same, under two names, or one of them.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &Secret> {
        [&self.token, &self.access_token].into_iter().flatten().filter(|token| !token.is_empty())
    }

    /// How long it says that they live; the default where it says nothing, or nothing that can be.
    pub(crate) fn life(&self) -> Duration {
        self.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(LEAST)
    }
}

impl Token {
    /// Reads an answer's body at `now`; `None` where it holds no token that a header can carry.
    pub(crate) fn parse(body: &[u8], now: SystemTime) -> Option<Self> {
        let answer = TokenDocument::parse(body)?;
        let token = answer.tokens().next()?;
        if token.expose().contains('\t') {
            return None; // a header may have one, and no token has
        }
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        header.set_sensitive(true);
        let said = answer.life();
        let life = said.clamp(LEAST, MOST);
        let issued = answer.issued_at.and_then(|text| instant(&text)).unwrap_or(now);
        let age = now.duration_since(issued).unwrap_or_default();
        let left = said.min(MOST).saturating_sub(age);
        Some(Self { header, keep: (life * 4 / 5).saturating_sub(age).max(MOMENT), left })
    }
}

/// An RFC 3339 time, with `Z` or an offset.
fn instant(text: &str) -> Option<SystemTime> {
    let text = text.to_ascii_uppercase();
    if text.ends_with('Z') {
        return humantime::parse_rfc3339(&text).ok();
    }
    let (clock, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (sign, offset) = offset.split_at_checked(1)?;
    let (hours, minutes) = offset.split_once(':')?;
    let minutes = hours.parse::<u64>().ok()?.checked_mul(60)?.checked_add(minutes.parse().ok()?)?;
    let at = humantime::parse_rfc3339(&format!("{clock}Z")).ok()?;
    match sign {
        "+" => at.checked_sub(Duration::from_secs(minutes.checked_mul(60)?)),
        "-" => at.checked_add(Duration::from_secs(minutes.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        humantime::parse_rfc3339("2026-11-20T10:00:00Z").unwrap()
    }

    #[test]
    fn a_token_is_kept_for_four_fifths_of_what_it_has_left() {
        let table = [
            (r#"{"token": "t"}"#, 48),
            (r#"{"token": "t", "expires_in": 300}"#, 240),
            (r#"{"token": "t", "expires_in": 300.5}"#, 240),
            (r#"{"access_token": "t", "expires_in": 5}"#, 48),
            (r#"{"token": "", "access_token": "t", "expires_in": -5}"#, 48),
            (r#"{"token": "t", "expires_in": 1e300}"#, 48),
            (r#"{"token": "t", "expires_in": 99999999}"#, 34_560),
            (r#"{"token": "t", "expires_in": 300, "issued_at": "2026-11-20T09:59:00Z"}"#, 180),
            (r#"{"token": "t", "expires_in": 300, "issued_at": "2026-11-20T10:59:00.123456+01:00"}"#, 180),
            (r#"{"token": "t", "expires_in": 300, "issued_at": "2026-11-20T09:29:00-00:30"}"#, 180),
            (r#"{"token": "t", "expires_in": 300, "issued_at": "2026-11-20T11:00:00Z"}"#, 240),
            (r#"{"token": "t", "expires_in": 300, "issued_at": "2020-01-01T00:00:00Z"}"#, 10),
            (r#"{"token": "t", "expires_in": 300, "issued_at": "soon"}"#, 240),
            (r#"{"token": "t", "expires_in": 300, "issued_at": 1770000000}"#, 240),
            (r#"{"token": "t", "expires_in": 300, "issued_at": null}"#, 240),
            (r#"{"token": "t", "expires_in": "300"}"#, 48),
            (r#"{"token": "t", "expires_in": "5 minutes"}"#, 48),
            (r#"{"token": "t", "expires_in": null}"#, 48),
            (r#"{"token": "t", "expires_in": -1}"#, 48),
            (r#"{"token": "t", "expires_in": 0.5}"#, 48),
            (r#"{"token": "t", "expires_in": {"seconds": 300}}"#, 48),
            (r#"{"token": "t", "expires_in": [300]}"#, 48),
            (r#"{"token": "t", "expires_in": true}"#, 48),
            (r#"{"token": null, "access_token": "t"}"#, 48),
            (r#"{"token": 5, "access_token": "t"}"#, 48),
            (r#"{"token": "t", "access_token": ""}"#, 48),
            (r#"{"token": "t", "access_token": "other"}"#, 48),
            (r#"{"token": "t", "access_token": {}, "scope": ["x"], "refresh_token": null}"#, 48),
        ];
        for (body, seconds) in table {
            let token = Token::parse(body.as_bytes(), now()).unwrap();
            assert_eq!(token.header, "Bearer t", "{body}");
            assert_eq!(token.keep.as_secs(), seconds, "{body}");
            assert_eq!(format!("{:?}", token.header), "Sensitive");
        }
    }

    #[test]
    fn what_a_token_has_left_is_never_more_than_was_said() {
        let table = [
            (r#"{"token": "t"}"#, 60),
            (r#"{"token": "t", "expires_in": 300}"#, 300),
            (r#"{"token": "t", "expires_in": 5}"#, 5),
            (r#"{"token": "t", "expires_in": 300, "issued_at": "2026-11-20T09:59:00Z"}"#, 240),
            (r#"{"token": "t", "expires_in": 300, "issued_at": "2020-01-01T00:00:00Z"}"#, 0),
        ];
        for (body, seconds) in table {
            assert_eq!(Token::parse(body.as_bytes(), now()).unwrap().left.as_secs(), seconds, "{body}");
        }
    }

    #[test]
    fn an_answer_without_a_token_is_none() {
        for body in [
            "",
            "{}",
            "[]",
            r#"["t", null, 300, null]"#,
            r#"{"token": ""}"#,
            r#"{"token": 5}"#,
            r#"{"token": "a\nb"}"#,
            "<html>",
        ] {
            assert_eq!(Token::parse(body.as_bytes(), now()), None, "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics_the_parser(body in ".{0,60}", at in ".{0,30}") {
            let _ = Token::parse(body.as_bytes(), now());
            let _ = instant(&at);
        }
    }
}
