//! Encodes digests and times for the catalog.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::Type;

use crate::oci::{Algorithm, Digest};

/// A digest as a key: one byte for the algorithm, then its bytes.
pub(crate) fn key(digest: &Digest) -> Vec<u8> {
    let hex = digest.hex();
    let mut key = Vec::with_capacity(1 + hex.len() / 2);
    key.push(match digest.algorithm() {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    });
    let nibble = |digit: u8| if digit < b'a' { digit - b'0' } else { digit - b'a' + 10 };
    key.extend(hex.as_bytes().chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])));
    key
}

/// The digest that a key encodes.
pub(crate) fn digest(key: &[u8]) -> rusqlite::Result<Digest> {
    use std::fmt::Write as _;
    let (algorithm, bytes) = match key.split_first() {
        Some((1, bytes)) => (Algorithm::Sha256, bytes),
        Some((2, bytes)) => (Algorithm::Sha512, bytes),
        _ => return Err(bad("a digest")),
    };
    let mut text = format!("{}:", algorithm.name());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    text.parse().map_err(|_| bad("a digest"))
}

/// The error for a column that does not decode.
pub(crate) fn bad(what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, format!("not {what}").into())
}

/// Microseconds since 1970. Earlier times become 1970, and times too far ahead the latest one.
pub(crate) fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The time of this many microseconds since 1970.
pub(crate) fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_the_digest_it_was_made_of() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let one = Digest::of(algorithm, b"content");
            assert_eq!(digest(&key(&one)).unwrap(), one);
        }
        for wrong in [&[][..], &[1], &[3; 33], &[1; 34], &[2; 33]] {
            assert!(digest(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_keep_their_microseconds() {
        let now = time(1_700_000_000_123_456);
        assert_eq!(time(micros(now)), now);
        assert_eq!(micros(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
