//! One parser for every path under `/v2/`: what a request means, decided once.
//!
//! What is not exactly an endpoint of the distribution-spec is [`Route::Other`]: it is passed through and
//! never cached, so a strange spelling can cost a cache hit and nothing else.

use super::{Digest, Reference, Repository};

/// What a request path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is this a registry, and does it want credentials (spec: end-1).
    Ping,
    /// `/v2/NAME/manifests/REFERENCE` (end-3, end-7, end-9).
    Manifest(Repository, Reference),
    /// `/v2/NAME/blobs/DIGEST` (end-2, end-10).
    Blob(Repository, Digest),
    /// `/v2/NAME/blobs/uploads/...` (end-4 to end-6, end-11, end-13).
    Upload(Repository),
    /// `/v2/NAME/tags/list` (end-8).
    Tags(Repository),
    /// `/v2/NAME/referrers/DIGEST` (end-12).
    Referrers(Repository, Digest),
    /// Anything else: a token service's path, a catalog, a name outside the grammar.
    Other,
}

impl Route {
    /// Reads a request's path, without its query.
    #[must_use]
    pub fn parse(path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/v2") else { return Self::Other };
        if rest.is_empty() || rest == "/" {
            return Self::Ping;
        }
        rest.strip_prefix('/').and_then(parse_named).unwrap_or(Self::Other)
    }

    /// The repository that it speaks of.
    #[must_use]
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Upload(name)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
            Self::Ping | Self::Other => None,
        }
    }
}

/// A name may itself hold `blobs` or `manifests` as a component, so the endings are read from the right.
fn parse_named(rest: &str) -> Option<Route> {
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some(Route::Tags(name.parse().ok()?));
    }
    if let Some((name, _)) = rest.rsplit_once("/blobs/uploads/") {
        return Some(Route::Upload(name.parse().ok()?));
    }
    let (head, last) = rest.rsplit_once('/')?;
    let (name, noun) = head.rsplit_once('/')?;
    let name = name.parse().ok()?;
    match noun {
        "blobs" if last == "uploads" => Some(Route::Upload(name)),
        "blobs" => Some(Route::Blob(name, last.parse().ok()?)),
        "manifests" => Some(Route::Manifest(name, last.parse().ok()?)),
        "referrers" => Some(Route::Referrers(name, last.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(text: &str) -> Repository {
        text.parse().unwrap()
    }

    #[test]
    fn every_endpoint_of_the_specification_is_known() {
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        let table = [
            ("/v2/".to_owned(), Route::Ping),
            ("/v2".to_owned(), Route::Ping),
            (
                "/v2/library/alpine/manifests/3.20".to_owned(),
                Route::Manifest(name("library/alpine"), "3.20".parse().unwrap()),
            ),
            (format!("/v2/a/manifests/sha256:{HEX}"), Route::Manifest(name("a"), Reference::Digest(digest))),
            (format!("/v2/a/b/blobs/sha256:{HEX}"), Route::Blob(name("a/b"), digest)),
            (format!("/v2/blobs/manifests/blobs/sha256:{HEX}"), Route::Blob(name("blobs/manifests"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Upload(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Upload(name("a"))),
            ("/v2/a/blobs/uploads/0-1-2".to_owned(), Route::Upload(name("a"))),
            ("/v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            (format!("/v2/a/referrers/sha256:{HEX}"), Route::Referrers(name("a"), digest)),
        ];
        for (path, expected) in table {
            assert_eq!(Route::parse(&path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_exactly_an_endpoint_passes_through() {
        let paths = [
            "",
            "/",
            "/v1/",
            "/v22/",
            "/v2/auth",
            "/v2/_catalog",
            "/v2//manifests/a",
            "/v2/A/manifests/a",
            "/v2/a/../b/manifests/c",
            "/v2/a/blobs/sha256%3Aabc",
            "/v2/a/blobs/md5:00",
            "/token",
            "/v2/manifests/latest",
            "/v2/a/manifests/",
        ];
        for path in paths {
            assert_eq!(Route::parse(path), Route::Other, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(path: String) {
            let _ = Route::parse(&path);
            let _ = Route::parse(&format!("/v2/{path}"));
        }
    }
}
