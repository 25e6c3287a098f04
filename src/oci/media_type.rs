//! Parses media types, those of manifests above all, and says what they suggest.

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

pub(super) const KNOWN: [(MediaType, &str); 7] = [
    (MediaType::OciIndex, "application/vnd.oci.image.index.v1+json"),
    (MediaType::DockerList, "application/vnd.docker.distribution.manifest.list.v2+json"),
    (MediaType::OciManifest, "application/vnd.oci.image.manifest.v1+json"),
    (MediaType::DockerManifest, "application/vnd.docker.distribution.manifest.v2+json"),
    (MediaType::DockerSchema1, "application/vnd.docker.distribution.manifest.v1+json"),
    (MediaType::DockerSchema1Signed, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    (MediaType::OciArtifact, "application/vnd.oci.artifact.manifest.v1+json"),
];

impl MediaType {
    /// Parses a `Content-Type` value; parameters are ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bare = bare(text);
        KNOWN.iter().find(|(_, name)| name.eq_ignore_ascii_case(bare)).map(|(known, _)| *known)
    }

    /// The name as a registry writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        KNOWN[self as usize].1
    }

    /// Whether it lists manifests for several platforms.
    #[must_use]
    pub fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }

    /// Whether it is a form of schema 1, which is never cached.
    #[must_use]
    pub fn is_schema1(self) -> bool {
        matches!(self, Self::DockerSchema1 | Self::DockerSchema1Signed)
    }
}

/// What the `Content-Type` of an answer suggests: content, or a login page, a gateway's error or a maintenance notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// HTML, which no registry sends as content.
    Page,
    /// Text, JSON, XML or no type at all: some registries send content with it, and gateways send errors.
    Doubtful,
    /// Anything else.
    Content,
}

impl Look {
    /// Judges a `Content-Type` value, if there is one.
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
pub(super) fn bare(text: &str) -> &str {
    text.split(';').next().unwrap_or(text).trim()
}

/// Whether a server could read parameters in the body of a request: some treat those of a form like those of the query,
/// and prefer them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enclosed {
    /// Bytes.
    Content,
    /// A form.
    Form,
    /// Servers do not agree what it is.
    Unclear,
}

impl Enclosed {
    /// Judges all values of `Content-Type`. No value, or an empty one, means bytes (RFC 9110, 8.3).
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::Content,
            (Some(value), None) => value.trim_ascii(),
            (Some(_), Some(_)) => return Self::Unclear,
        };
        // Servers that know only one type in a field disagree with those that read a list.
        let is_text = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~') && *byte != b',');
        let Some(text) = std::str::from_utf8(value).ok().filter(|_| is_text) else { return Self::Unclear };
        let bare = bare(text).to_ascii_lowercase();
        let is_token = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic());
        match bare.split_once('/') {
            None if text.is_empty() => Self::Content,
            Some((kind, name)) if !is_token(kind) || !is_token(name) => Self::Unclear,
            Some(("multipart", _)) => Self::Form,
            Some((_, name)) if name.contains("form-urlencoded") || name.contains("url-encoded") => Self::Form,
            Some(_) => Self::Content,
            None => Self::Unclear,
        }
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
    fn a_body_in_which_parameters_could_be_read_is_known_by_its_type() {
        use Enclosed::{Content, Form, Unclear};
        let table: [(&[&[u8]], Enclosed); 20] = [
            (&[], Content),
            (&[b""], Content),
            (&[b"application/octet-stream"], Content),
            (&[b"application/vnd.example.platform-form+json; charset=utf-8"], Content),
            (&[b"application/octet-stream; x=multipart/form-data"], Content),
            (&[b"application/x-www-form-urlencoded"], Form),
            (&[b" Application/X-WWW-Form-URLencoded ; charset=utf-8"], Form),
            (&[b"application/x-url-encoded"], Form),
            (&[b"multipart/form-data; boundary=X"], Form),
            (&[b"MULTIPART/mixed"], Form),
            (&[b"\tmultipart/form-data;boundary=\"a\""], Form),
            (&[b"application/octet-stream", b"application/octet-stream"], Unclear),
            (&[b"", b"multipart/form-data"], Unclear),
            (&[b"application/octet-stream, application/x-www-form-urlencoded"], Unclear),
            (&[b"multipart/form-data, x/y"], Unclear),
            (&[b"multipart /form-data"], Unclear),
            (&[b"multipart"], Unclear),
            (&[b";multipart/form-data"], Unclear),
            (&[b"application/x-www-form-urlencoded x"], Unclear),
            (&[b"application/octet-stream\xff"], Unclear),
        ];
        for (values, expected) in table {
            let shown: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value)).collect();
            assert_eq!(Enclosed::of(values.iter().copied()), expected, "{shown:?}");
        }
    }
}
