//! A token service's answer.

use std::time::{Duration, SystemTime};

use super::answer::Token;
use crate::fuzzing::naive;

const MOST: Duration = Duration::from_secs(12 * 3600);

/// A token is one that stands in the answer and that a header can carry. It is never used for longer than was said, but
/// for the least that clients count on, nor for longer than half a day.
pub fn token_answer(data: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let Some(token) = Token::parse(data, now) else { return };
    let Some(value) = naive::json(data) else { return };
    let said = ["token", "access_token"].iter().filter_map(|name| value[name].as_str()).find(|text| !text.is_empty());
    assert_eq!(token.header.as_bytes(), format!("Bearer {}", said.unwrap()).as_bytes());
    assert!(token.header.is_sensitive() && !token.header.as_bytes().iter().any(u8::is_ascii_control));
    let expires = value["expires_in"].as_f64();
    let life = expires.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(Duration::from_secs(60));
    assert!(token.left <= life.min(MOST), "{token:?}");
    assert!(token.keep <= life.clamp(Duration::from_secs(60), MOST), "{token:?}");
    assert!(token.keep >= Duration::from_secs(10), "{token:?}");
}
