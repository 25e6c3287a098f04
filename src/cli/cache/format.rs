//! Formats sizes, times and digests for people.

use std::time::{Duration, SystemTime};

use crate::host::Size;

/// `1.2 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    Size(bytes).to_string()
}

/// `3 minutes ago`; a time in the future is `just now`.
pub(crate) fn ago(then: Option<SystemTime>, now: SystemTime) -> String {
    let Some(then) = then else { return "never".to_owned() };
    let seconds = now.duration_since(then).unwrap_or(Duration::ZERO).as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    match units.into_iter().find(|(length, _)| seconds >= *length) {
        None => "just now".to_owned(),
        Some((length, unit)) => format!("{} ago", count(seconds / length, unit)),
    }
}

/// `1 day`, `2 days`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The beginning of a digest, which the commands accept in place of the complete one.
pub(super) fn short(digest: &str) -> &str {
    let end = digest.find(':').map_or(0, |colon| colon + 13);
    digest.get(..end).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_their_largest_unit() {
        let now = SystemTime::now();
        let table = [
            (0, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7199, "1 hour ago"),
            (7200, "2 hours ago"),
            (400 * 86_400, "400 days ago"),
        ];
        for (seconds, words) in table {
            assert_eq!(ago(Some(now - Duration::from_secs(seconds)), now), words);
        }
        assert_eq!(ago(Some(now + Duration::from_secs(9)), now), "just now");
        assert_eq!(ago(None, now), "never");
    }

    #[test]
    fn a_short_digest_is_one_that_the_commands_accept() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(short(digest), "sha256:e3b0c44298fc");
        assert!(short(digest).parse::<crate::oci::ImageName>().is_ok());
    }
}
