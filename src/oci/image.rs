//! Parses the names that people use for content: an image, a repository, a registry, or a digest by its first digits.
//!
//! A name without a registry is read as by `docker pull`: `alpine` is `docker.io/library/alpine:latest`. A name with a
//! registry and without a tag is the repository. A digest takes precedence over a tag.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Algorithm, Authority, BadName, Digest, Reference, Repository, Tag};

const HUB: &str = "docker.io";
const HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
const LATEST: &str = "latest";
/// Fewer digits than this are a typing error, not a name.
const LEAST_DIGITS: usize = 4;

/// A name for content in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageName {
    /// `quay.io`: all content of a registry.
    Registry(Arc<str>),
    /// `quay.io/org/app`: all content of a repository.
    Repository(Arc<str>, Repository),
    /// `quay.io/org/app:1`, `quay.io/org/app@sha256:...`, `alpine`.
    Image(Arc<str>, Repository, Reference),
    /// `sha256:...`, complete or its first digits.
    Digest(DigestPrefix),
}

/// The first hexadecimal digits of a digest, possibly all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestPrefix {
    algorithm: Algorithm,
    hex: String,
}

/// Text that is not a name for content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadImageName {
    /// An empty text.
    #[error("the name is empty; expected one such as quay.io/org/app:1, alpine, quay.io or sha256:0123abcd")]
    Empty,
    /// The part before the first slash is not a host.
    #[error("{0:?} is not a registry; expected a host such as quay.io or registry.example.com:5000")]
    Registry(String),
    /// The part of a name that does not follow the grammar.
    #[error("{0:?} is {1}")]
    Part(String, BadName),
    /// The part after the `@`.
    #[error("{0:?} is not a digest; expected sha256: and all 64 hex digits after @")]
    Digest(String),
    /// Not the beginning of a digest.
    #[error("{0:?} is not a digest, or too short; expected sha256: and at least {LEAST_DIGITS} lower-case hex digits")]
    Prefix(String),
}

impl ImageName {
    /// The image if only one can be meant: for a repository, its tag `latest`.
    #[must_use]
    pub fn or_latest(self) -> Self {
        match (self, LATEST.parse()) {
            (Self::Repository(registry, repository), Ok(tag)) => Self::Image(registry, repository, Reference::Tag(tag)),
            (other, _) => other,
        }
    }
}

impl DigestPrefix {
    /// The digest, if all digits are given.
    #[must_use]
    pub fn whole(&self) -> Option<Digest> {
        self.to_string().parse().ok()
    }

    /// The first and the last digest with this prefix. A parsed prefix never gives `None`.
    #[must_use]
    pub fn range(&self) -> Option<(Digest, Digest)> {
        let filled = |digit: &str| {
            let rest = digits(self.algorithm).saturating_sub(self.hex.len());
            format!("{self}{}", digit.repeat(rest)).parse().ok()
        };
        filled("0").zip(filled("f"))
    }
}

impl FromStr for DigestPrefix {
    type Err = BadImageName;

    fn from_str(text: &str) -> Result<Self, BadImageName> {
        let bad = || BadImageName::Prefix(text.to_owned());
        let (name, hex) = text.split_once(':').ok_or_else(bad)?;
        let algorithm = [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|known| known.name() == name);
        let algorithm = algorithm.ok_or_else(bad)?;
        let plain = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !plain || !(LEAST_DIGITS..=digits(algorithm)).contains(&hex.len()) {
            return Err(bad());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

fn digits(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Sha256 => 64,
        Algorithm::Sha512 => 128,
    }
}

impl FromStr for ImageName {
    type Err = BadImageName;

    fn from_str(text: &str) -> Result<Self, BadImageName> {
        if text.is_empty() {
            return Err(BadImageName::Empty);
        }
        let is_digest = text.starts_with("sha256:") || text.starts_with("sha512:");
        if is_digest && !text.contains('/') {
            return text.parse().map(Self::Digest);
        }
        let Some((first, rest)) = text.split_once('/') else {
            return if is_host(text, false) { registry(text).map(Self::Registry) } else { short(text) };
        };
        if rest.is_empty() {
            return registry(first).map(Self::Registry);
        }
        if !is_host(first, true) {
            return short(text);
        }
        let registry = registry(first)?;
        let (name, reference) = split(rest)?;
        let repository = repository(&registry, name)?;
        Ok(match reference {
            Some(reference) => Self::Image(registry, repository, reference),
            None => Self::Repository(registry, repository),
        })
    }
}

/// Parses a name without a registry, and completes it as Docker's clients do.
fn short(text: &str) -> Result<ImageName, BadImageName> {
    let (name, reference) = split(text)?;
    let repository = repository(HUB, name)?;
    let latest = || LATEST.parse().map(Reference::Tag).map_err(|bad| BadImageName::Part(LATEST.into(), bad));
    Ok(ImageName::Image(HUB.into(), repository, reference.map_or_else(latest, Ok)?))
}

/// Docker's rule: a first component with a dot or a port, or localhost, is a host.
fn is_host(first: &str, is_followed: bool) -> bool {
    let (name, port) = first.rsplit_once(':').map_or((first, None), |(name, port)| (name, Some(port)));
    let is_port = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    // If nothing follows, `host:5000` is an image with a tag.
    let says_so = name.contains('.') || name == "localhost" || (is_followed && port.is_some());
    first.starts_with('[') || (is_port && says_so)
}

fn registry(text: &str) -> Result<Arc<str>, BadImageName> {
    let authority = Authority::parse(text, 443).map_err(|_| BadImageName::Registry(text.to_owned()))?;
    let name = authority.short(443);
    if !is_host(&name, true) {
        return Err(BadImageName::Registry(text.to_owned())); // it would print as something different
    }
    Ok(if HUB_ALIASES.contains(&&*name) { HUB.into() } else { name })
}

fn repository(registry: &str, name: &str) -> Result<Repository, BadImageName> {
    let bad = |bad| BadImageName::Part(name.to_owned(), bad);
    if registry == HUB && !name.contains('/') {
        return format!("library/{name}").parse().map_err(bad);
    }
    name.parse().map_err(bad)
}

fn split(text: &str) -> Result<(&str, Option<Reference>), BadImageName> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest.parse().map_err(|_| BadImageName::Digest(digest.to_owned()))?)),
        None => (text, None),
    };
    let slash = named.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match named[slash..].find(':') {
        Some(at) => (&named[..slash + at], Some(&named[slash + at + 1..])),
        None => (named, None),
    };
    let tag: Option<Tag> =
        tag.map(|tag| tag.parse().map_err(|bad| BadImageName::Part(tag.to_owned(), bad))).transpose()?;
    Ok((name, digest.map(Reference::Digest).or(tag.map(Reference::Tag))))
}

impl fmt::Display for DigestPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The slash distinguishes a host without a dot from an image of Docker Hub.
            Self::Registry(registry) if is_host(registry, false) => f.write_str(registry),
            Self::Registry(registry) => write!(f, "{registry}/"),
            Self::Repository(registry, repository) => write!(f, "{registry}/{repository}"),
            Self::Image(registry, repository, Reference::Tag(tag)) => write!(f, "{registry}/{repository}:{tag}"),
            Self::Image(registry, repository, Reference::Digest(digest)) => {
                write!(f, "{registry}/{repository}@{digest}")
            }
            Self::Digest(prefix) => prefix.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let by_digest = format!("host:5000/repo@sha256:{HEX}");
        let both = format!("alpine:3@sha256:{HEX}");
        let both_read = format!("docker.io/library/alpine@sha256:{HEX}");
        let table = [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("bitnami/nginx", "docker.io/bitnami/nginx:latest"),
            ("docker.io/alpine", "docker.io/library/alpine"),
            ("index.docker.io/library/alpine:3", "docker.io/library/alpine:3"),
            ("quay.io/org/app:1", "quay.io/org/app:1"),
            ("quay.io/org/app", "quay.io/org/app"),
            ("QUAY.io/app:V1", "quay.io/app:V1"),
            ("quay.io", "quay.io"),
            ("quay.io/", "quay.io"),
            ("localhost:5000", "localhost:5000"),
            ("localhost/app", "localhost/app"),
            ("host:5000/", "host:5000/"),
            ("sha256:5000/", "sha256:5000/"),
            ("SHA256:5000/1234", "sha256:5000/1234"),
            ("host:5000", "docker.io/library/host:5000"),
            ("host:5000/repo:a.b", "host:5000/repo:a.b"),
            (&by_digest, &by_digest),
            (&both, &both_read),
            ("[2001:db8::1]:5000/a", "[2001:db8::1]:5000/a"),
            ("sha256:e3b0c442", "sha256:e3b0c442"),
        ];
        for (text, read) in table {
            let name: ImageName = text.parse().unwrap_or_else(|bad| panic!("{text}: {bad}"));
            assert_eq!(name.to_string(), read, "{text}");
        }
    }

    #[test]
    fn only_a_name_with_a_registry_and_no_tag_is_a_repository() {
        let read = |text: &str| text.parse::<ImageName>().unwrap();
        assert!(matches!(read("docker.io/library/alpine"), ImageName::Repository(..)));
        assert!(matches!(read("alpine"), ImageName::Image(..)));
        assert!(matches!(read("quay.io"), ImageName::Registry(_)));
        assert_eq!(read("docker.io/library/alpine").or_latest(), read("alpine"));
        assert_eq!(read("quay.io").or_latest(), read("quay.io"));
    }

    #[test]
    fn what_names_nothing_is_refused_with_what_was_expected() {
        let short = format!("a@sha256:{}", &HEX[..12]);
        for text in [
            "",
            "/",
            "A",
            "a b",
            "quay.io//a",
            "alpine:",
            "a:b:c",
            ":1",
            "@",
            "sha256:",
            "sha256:abc",
            "sha256:XYZ0",
            "md5@x",
            &short,
            "quay.io/org/app:.1",
            "..",
            "-x.y/a",
        ] {
            let bad = text.parse::<ImageName>().expect_err(text);
            assert!(bad.to_string().contains("expected"), "{text}: {bad}");
        }
    }

    #[test]
    fn a_prefix_spans_all_digests_that_begin_so() {
        let prefix: DigestPrefix = "sha256:e3b0c".parse().unwrap();
        let (first, last) = prefix.range().unwrap();
        let one: Digest = format!("sha256:{HEX}").parse().unwrap();
        assert!(first < one && one < last && prefix.whole().is_none());
        let whole: DigestPrefix = one.to_string().parse().unwrap();
        assert_eq!((whole.whole(), whole.range()), (Some(one), Some((one, one))));
    }

    proptest! {
        #[test]
        fn prints_what_it_reads_again(text in "([a-z0-9.]{1,12}(:[0-9]{1,4})?/)?[a-z0-9/]{1,12}(:[a-z0-9.]{1,6})?") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.to_string().parse::<ImageName>(), Ok(name));
            }
        }

        #[test]
        fn never_panics(text: String) {
            let _ = text.parse::<ImageName>();
        }
    }
}
