//! Media types of manifests, and the class of an `Accept` header.
//!
//! A registry answers a tag by what the client accepts: an index to one, a single manifest to another. So
//! a tag's answer is kept by the class of the `Accept` that earned it, never by the tag alone.

use std::fmt;

/// A manifest's media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaType {
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerList,
    /// `application/vnd.oci.image.manifest.v1+json`
    OciManifest,
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerManifest,
    /// `application/vnd.docker.distribution.manifest.v1+json`
    DockerSchema1,
    /// `application/vnd.docker.distribution.manifest.v1+prettyjws`: signed; its digest is not that of its bytes.
    DockerSchema1Signed,
    /// `application/vnd.oci.artifact.manifest.v1+json`, which image-spec 1.1 had for a while.
    OciArtifact,
}

const KNOWN: [(MediaType, &str); 7] = [
    (MediaType::OciIndex, "application/vnd.oci.image.index.v1+json"),
    (MediaType::DockerList, "application/vnd.docker.distribution.manifest.list.v2+json"),
    (MediaType::OciManifest, "application/vnd.oci.image.manifest.v1+json"),
    (MediaType::DockerManifest, "application/vnd.docker.distribution.manifest.v2+json"),
    (MediaType::DockerSchema1, "application/vnd.docker.distribution.manifest.v1+json"),
    (MediaType::DockerSchema1Signed, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    (MediaType::OciArtifact, "application/vnd.oci.artifact.manifest.v1+json"),
];

impl MediaType {
    /// Reads a `Content-Type` value; parameters do not matter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bare = bare(text);
        KNOWN.iter().find(|(_, name)| name.eq_ignore_ascii_case(bare)).map(|(known, _)| *known)
    }

    /// Its name as a registry writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        KNOWN[self as usize].1
    }

    /// Whether it lists manifests for several platforms.
    #[must_use]
    pub fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }

    /// Whether it is a form of schema 1, which the cache leaves alone.
    #[must_use]
    pub fn is_schema1(self) -> bool {
        matches!(self, Self::DockerSchema1 | Self::DockerSchema1Signed)
    }
}

/// What a `Content-Type` says of an answer that should be content: whether a login page, a gateway's error or a
/// maintenance notice would say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// HTML, which no registry sends as content.
    Page,
    /// Text, JSON, XML or no type at all: some registries send content so, and so do gateways.
    Doubtful,
    /// Anything else.
    Content,
}

impl Look {
    /// Reads a `Content-Type` value, if there is one.
    #[must_use]
    pub fn of(media_type: Option<&str>) -> Self {
        let Some(bare) = media_type.map(|text| bare(text).to_ascii_lowercase()) else { return Self::Doubtful };
        match bare.split_once('/') {
            Some(("text", "html") | ("application", "xhtml+xml")) => Self::Page,
            Some(("text", _) | ("application", "json" | "xml" | "problem+json" | "problem+xml" | "javascript")) => {
                Self::Doubtful
            }
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Self::Content,
            _ => Self::Doubtful,
        }
    }
}

/// A media type without its parameters.
fn bare(text: &str) -> &str {
    text.split(';').next().unwrap_or(text).trim()
}

/// What a client accepts, as far as it can change a registry's answer: the set of known types and `*/*`.
/// Two headers with the same class earn the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Accept(u8);

const ANY: u8 = 1 << 7;

impl Accept {
    /// Every known type, and any other.
    pub const EVERYTHING: Self = Self(ANY | 0b111_1111);

    /// Reads all values of the `Accept` headers of one request. None at all means `*/*` (RFC 9110, 12.5.1).
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut class = 0;
        let mut seen = false;
        for item in values.into_iter().flat_map(|value| value.split(',')) {
            seen = true;
            let bare = bare(item);
            if bare == "*/*" || bare.eq_ignore_ascii_case("application/*") {
                class |= ANY;
            } else if let Some(known) = MediaType::parse(bare) {
                class |= 1 << known as u8;
            }
        }
        Self(if seen { class } else { ANY })
    }

    /// Whether an answer of this type is one the client said it takes.
    #[must_use]
    pub fn admits(self, media_type: MediaType) -> bool {
        self.0 & (ANY | 1 << media_type as u8) != 0
    }

    /// A number for it that stays the same from one version to the next, for keys on disk.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }

    /// The class of a number that [`Accept::code`] gave.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self(code)
    }
}

impl fmt::Display for Accept {
    /// A header value that falls into this class.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = KNOWN.iter().filter(|(known, _)| self.0 & 1 << *known as u8 != 0).map(|(_, name)| *name);
        let any = (self.0 & ANY != 0).then_some("*/*");
        for (position, name) in known.chain(any).enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_print_what_they_parse() {
        for (known, name) in KNOWN {
            assert_eq!(known.as_str(), name);
            assert_eq!(MediaType::parse(&format!("{name}; charset=utf-8")), Some(known));
        }
        assert_eq!(MediaType::parse("application/json"), None);
    }

    #[test]
    fn a_page_looks_like_one_and_content_does_not() {
        let table = [
            (Some("text/html; charset=utf-8"), Look::Page),
            (Some("TEXT/HTML"), Look::Page),
            (Some("application/xhtml+xml"), Look::Page),
            (Some("text/plain"), Look::Doubtful),
            (Some("application/json; charset=utf-8"), Look::Doubtful),
            (Some("html"), Look::Doubtful),
            (Some(""), Look::Doubtful),
            (None, Look::Doubtful),
            (Some("application/octet-stream"), Look::Content),
            (Some("application/vnd.docker.container.image.v1+json"), Look::Content),
        ];
        for (media_type, look) in table {
            assert_eq!(Look::of(media_type), look, "{media_type:?}");
        }
    }

    #[test]
    fn order_case_and_weights_do_not_change_the_class() {
        let one = Accept::parse(["application/vnd.oci.image.index.v1+json, */*;q=0.1"]);
        let two = Accept::parse(["*/*", "Application/Vnd.OCI.image.index.v1+json;q=0.5, application/x-unknown"]);
        assert_eq!(one, two);
        assert_ne!(one, Accept::parse(["*/*"]));
        assert_eq!(Accept::parse([]), Accept::parse(["*/*"]));
    }

    #[test]
    fn a_class_prints_a_header_of_its_own_class() {
        for code in 0..=255_u8 {
            let class = Accept::from_code(code);
            let printed = class.to_string();
            assert_eq!(Accept::parse([printed.as_str()]), class);
        }
    }

    #[test]
    fn admits_what_was_named_or_anything() {
        let manifest_only = Accept::parse([MediaType::DockerManifest.as_str()]);
        assert!(manifest_only.admits(MediaType::DockerManifest));
        assert!(!manifest_only.admits(MediaType::OciIndex));
        assert!(Accept::parse([]).admits(MediaType::OciIndex));
    }
}
