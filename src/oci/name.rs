//! Parses repository names, tags and references: the part after the registry in the name of an image.
//!
//! The grammar is that of the distribution-spec ("Pulling manifests"); a name that does not follow it never becomes a
//! cache key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Digest;

/// The name of a repository within its registry, such as `library/alpine`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

/// A tag, such as `3.20`: at most 128 characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// The reference by which a manifest is requested.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A name that may move.
    Tag(Tag),
    /// The content itself.
    Digest(Digest),
}

/// Text that is not a repository name, tag or reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not `[a-z0-9]+([._-]...)*(/...)*`, or longer than 255 characters.
    #[error("not a repository name: expected lower-case path components such as library/alpine")]
    Repository,
    /// Not `[a-zA-Z0-9_][a-zA-Z0-9._-]{{0,127}}`.
    #[error("not a tag: expected up to 128 letters, digits, dots, dashes and underscores")]
    Tag,
}

impl Repository {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names what is attached to some content: its signatures (`sha256-HEX.sig`), or its referrers
    /// (`sha256-HEX`; distribution-spec, "Referrers Tag Schema").
    #[must_use]
    pub fn is_of_content(&self) -> bool {
        // Of a longer digest the first 64 digits are written.
        let Some(rest) = self.0.strip_prefix("sha256-").or_else(|| self.0.strip_prefix("sha512-")) else {
            return false;
        };
        let digits = rest.split('.').next().unwrap_or_default();
        digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl FromStr for Repository {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = !text.is_empty() && text.len() <= 255 && text.split('/').all(is_component);
        if fits { Ok(Self(text.into())) } else { Err(BadName::Repository) }
    }
}

/// A component: alphanumeric runs joined by one dot, one or two underscores, or any number of dashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text
            .split(alphanumeric)
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-'))
}

impl FromStr for Tag {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let bytes = text.as_bytes();
        let fits = bytes.len() <= 128
            && bytes.first().copied().is_some_and(word)
            && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'));
        if fits { Ok(Self(text.into())) } else { Err(BadName::Tag) }
    }
}

impl FromStr for Reference {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text.parse() {
            Ok(digest) => Ok(Self::Digest(digest)),
            Err(_) => text.parse().map(Self::Tag),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_what_is_attached_to_content_are_told_from_others() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let table = [
            (format!("sha256-{hex}"), true),
            (format!("sha512-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.att"), true),
            (format!("sha256-{hex}.sbom"), true),
            (format!("sha256-{}", &hex[1..]), false),
            (format!("sha256-{hex}0"), false),
            (format!("sha256-{}.sig", hex.to_uppercase()), false),
            (format!("md5-{hex}"), false),
            ("sha256".to_owned(), false),
            ("latest".to_owned(), false),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Tag>().unwrap().is_of_content(), expected, "{text}");
        }
    }

    #[test]
    fn repository_names_follow_the_specification() {
        for good in ["alpine", "library/alpine", "a/b/c/d", "a.b_c__d-e---f", "0", "team1/app-2"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        let bad =
            ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", "a._b", "..", "a/../b", "a b", "é", &long];
        for bad in bad {
            assert_eq!(bad.parse::<Repository>(), Err(BadName::Repository), "{bad}");
        }
    }

    #[test]
    fn tags_follow_the_specification() {
        let longest = "a".repeat(128);
        for good in ["latest", "3.20", "_", "V1-alpha_2", "sha256-abc.sig", &longest] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", ".a", "-a", "a/b", "a:b", "a b", "ä", &long] {
            assert_eq!(bad.parse::<Tag>(), Err(BadName::Tag), "{bad}");
        }
    }
}
