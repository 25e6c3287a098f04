//! Parses the path of a request in canonical form, so that no server reads another path than the one that was checked.
//!
//! Threat: servers decode escapes, merge slashes, resolve dot segments and cut `;parameters` before they route. A path
//! that only such a server reads as `/v2/...` would pass every check of its text.
//! Defence: a path in which any server could find a `v2` segment is accepted only in the form in which it is printed.

use std::fmt;
use std::sync::Arc;

use super::percent;

/// The most times that a path may be escaped: one server decodes once, two in a row twice.
const DECODINGS: usize = 4;

/// A path as it is sent upstream: it starts with a slash, and each escape has one spelling. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PlainPath(Arc<str>);

/// A path that servers may read in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is not in canonical form: write it without escapes, empty segments, dot segments, `;` and `\\`")]
pub struct BadPath;

impl PlainPath {
    /// Parses a path outside `/v2/`. Its escapes are kept, each in its one spelling (RFC 3986, 6.2.2).
    ///
    /// # Errors
    /// [`BadPath`] for text that is not a path, for control characters, and if some server could find a `v2` segment that
    /// is not plainly in the text.
    pub(crate) fn outside(text: &str) -> Result<Self, BadPath> {
        let decoded = decoded(text)?;
        let printed = percent::normalised(text, b"/:@!$&'()*+,=;").ok_or(BadPath)?;
        let is_plain = printed == text && resolved(&decoded) == text;
        // A server may also see the segments that dot segments remove, so the search comes before they are resolved.
        if names_v2(&decoded) && !is_plain { Err(BadPath) } else { Ok(Self(printed.into())) }
    }

    /// Parses a path under `/v2/` that is not an endpoint of the protocol: plain segments, of which only the last may be
    /// empty.
    ///
    /// # Errors
    /// [`BadPath`].
    pub(crate) fn under_v2(text: &str) -> Result<Self, BadPath> {
        let segments = text.strip_prefix("/v2/").ok_or(BadPath)?;
        let segments = segments.strip_suffix('/').unwrap_or(segments);
        if segments.split('/').all(is_plain) { Ok(Self(text.into())) } else { Err(BadPath) }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a server could take it for one of the registry protocol: it has a `v2` segment, since some registries
    /// have the protocol below a path of their own; or it is one of version 1, which some still speak.
    #[must_use]
    pub fn is_of_protocol(&self) -> bool {
        names_v2(&self.0) || is_of_v1(&self.0)
    }
}

impl fmt::Display for PlainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PlainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether every server reads the segment in the same way.
pub(crate) fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@=+,!$".contains(&byte);
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

fn names_v2(path: &str) -> bool {
    path.split('/').any(|segment| bare(segment).eq_ignore_ascii_case("v2"))
}

/// Whether a server could read a path of Docker's first protocol in it: `/v1/repositories/...` or `/v1/images/...`, also
/// below the path of one of several registries on a host (Artifactory, Nexus).
fn is_of_v1(path: &str) -> bool {
    let Ok(read) = decoded(path).map(|decoded| resolved(&decoded).to_ascii_lowercase()) else { return false };
    let segments: Vec<_> = read.split('/').map(bare).collect();
    segments.windows(2).any(|two| two[0] == "v1" && matches!(two[1], "repositories" | "images"))
}

/// A segment without parameters, and without what a server may take for a query or a fragment once it is decoded.
fn bare(segment: &str) -> &str {
    segment.split([';', '?', '#']).next().unwrap_or_default()
}

/// The path that the most lenient server would read: decoded until nothing is left to decode.
fn decoded(text: &str) -> Result<String, BadPath> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..DECODINGS {
        let decoded = percent::decoded(&bytes);
        if decoded == bytes {
            let is_path = text.starts_with('/') && !bytes.iter().any(u8::is_ascii_control);
            return if is_path { Ok(String::from_utf8_lossy(&bytes).replace('\\', "/")) } else { Err(BadPath) };
        }
        bytes = decoded;
    }
    Err(BadPath)
}

/// The path without parameters, empty segments and dot segments.
fn resolved(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            plain => segments.push(plain),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_some_server_reads_as_v2_is_refused() {
        let paths = [
            "/%762/a",
            "/v%32/a",
            "/%2576%32/a",
            "//v2/a",
            "/./v2/a",
            "/x/../v2/a",
            "/v2;x=y/a",
            "/\\v2/a",
            "/x%2fv2/a",
            "/x/%2e%2e/v2/a",
            "/V2;/a",
            "/artifactory/api/docker/repo/%762/a",
            "/artifactory//v2/a",
            "/v2%2finternal%2fapp%2f..%2f..%2f..",
            "/x/v2/../y",
            "/v2%3f/../../x",
            "/v2%23x",
            "/x/v2/a{b",
            "%2fx",
            "/%25%32%35%32%35%32%35%32%35",
            "/a%00b",
            "/a\nb",
            "",
            "v2",
            "*",
            "/%",
        ];
        for path in paths {
            assert_eq!(PlainPath::outside(path), Err(BadPath), "{path}");
        }
    }

    #[test]
    fn other_paths_keep_their_meaning() {
        let table = [
            ("/", "/", false),
            ("/token", "/token", false),
            ("/api/v4/projects/group%2fproject", "/api/v4/projects/group%2Fproject", false),
            ("/a%7eb//c;d", "/a~b//c;d", false),
            ("/V2/a", "/V2/a", true),
            ("/artifactory/api/docker/repo/v2/a", "/artifactory/api/docker/repo/v2/a", true),
            ("/v1/repositories/internal/app/", "/v1/repositories/internal/app/", true),
            ("/x/..//%76%31;a/images/abc/layer", "/x/..//v1;a/images/abc/layer", true),
            (
                "/repository/docker/v1/repositories/internal/app",
                "/repository/docker/v1/repositories/internal/app",
                true,
            ),
            ("/artifactory/api/docker/x/%761/images/a/layer", "/artifactory/api/docker/x/v1/images/a/layer", true),
            ("/v1%2Frepositories/a", "/v1%2Frepositories/a", true),
            ("/v1/search", "/v1/search", false),
            ("/api/v1/repository/a", "/api/v1/repository/a", false),
        ];
        for (path, printed, is_of_protocol) in table {
            let plain = PlainPath::outside(path).unwrap();
            assert_eq!((plain.as_str(), plain.is_of_protocol()), (printed, is_of_protocol), "{path}");
        }
    }

    #[test]
    fn under_v2_every_segment_is_plain() {
        for path in ["/v2/_catalog", "/v2/A/manifests/x", "/v2/a/blobs/md5:00", "/v2/a/blobs/upload/x==", "/v2/token/"]
        {
            assert!(PlainPath::under_v2(path).is_ok(), "{path}");
        }
        for path in ["/v2//", "/v2/a//", "/v2/a//b", "/v2/a/../b", "/v2/%61", "/v2/a;b", "/v2/a\\b", "/v2/a b", "/v2/é"]
        {
            assert_eq!(PlainPath::under_v2(path), Err(BadPath), "{path}");
        }
    }
}
