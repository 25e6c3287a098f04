//! Matches a pattern of repositories: `team/*`, `library/alpine`, `*/cache`.
//!
//! A star stands for any number of characters, including slashes and including none, so `team/*` matches everything below
//! `team` at any depth, and `*` matches every repository.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};

use super::Repository;
use super::text::parsed;

/// The name of a repository, or a pattern of names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryPattern(String);

/// Text that is not such a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a repository or a pattern of repositories, such as library/alpine, team/* or *")]
pub struct BadRepositoryPattern;

impl RepositoryPattern {
    /// Whether `repository` matches.
    #[must_use]
    pub fn matches(&self, repository: &Repository) -> bool {
        matches(self.0.as_bytes(), repository.as_str().as_bytes())
    }

    /// How narrow the pattern is: of two patterns that match a repository, the one with the higher value is more exact. A
    /// name without a star is narrower than any pattern.
    #[must_use]
    pub fn narrowness(&self) -> usize {
        let plain = self.0.bytes().filter(|byte| *byte != b'*').count();
        if plain == self.0.len() { usize::MAX } else { plain }
    }
}

/// Backtracks only to the last star, so the cost is quadratic at worst.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    at = place + 1;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

impl FromStr for RepositoryPattern {
    type Err = BadRepositoryPattern;

    fn from_str(text: &str) -> Result<Self, BadRepositoryPattern> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'*');
        let segment = |s: &str| !s.is_empty() && s.bytes().all(plain) && s != "." && s != "..";
        let fits = text.len() <= 255 && text.split('/').all(segment);
        let named = text.contains('*') || text.parse::<Repository>().is_ok();
        if fits && named { Ok(Self(text.to_owned())) } else { Err(BadRepositoryPattern) }
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RepositoryPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let table = [
            ("team/*", "team/app", true),
            ("team/*", "team/app/cache", true),
            ("team/*", "team", false),
            ("team/*", "teams/app", false),
            ("team/*", "other/team/app", false),
            ("*", "a/b/c", true),
            ("*/cache", "a/b/cache", true),
            ("*/cache", "a/cache/b", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1c2b", false),
            ("library/alpine", "library/alpine", true),
            ("library/alpine", "library/alpine3", false),
            ("library/alp*", "library/alp", true),
        ];
        for (pattern, name, expected) in table {
            let parsed: RepositoryPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(&name.parse().unwrap()), expected, "{pattern} {name}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn what_no_repository_can_match_is_refused() {
        for text in ["", "/a", "a/", "Team/*", "a//b", "a b", "docker.io:443/a", "a/../b", "team/ä*", "a..b"] {
            assert_eq!(text.parse::<RepositoryPattern>(), Err(BadRepositoryPattern), "{text}");
        }
    }

    #[test]
    fn a_name_is_narrower_than_any_pattern() {
        let narrowness = |text: &str| text.parse::<RepositoryPattern>().unwrap().narrowness();
        assert!(narrowness("a") > narrowness("team/very/deep/*"));
        assert!(narrowness("team/sub/*") > narrowness("team/*"));
        assert!(narrowness("team/*") > narrowness("*"));
    }

    fn simply(pattern: &str, text: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == text,
            Some((head, rest)) => {
                text.strip_prefix(head).is_some_and(|text| (0..=text.len()).any(|at| simply(rest, &text[at..])))
            }
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_it_would_be_by_trying_everything(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), simply(&pattern, &text));
        }
    }
}
