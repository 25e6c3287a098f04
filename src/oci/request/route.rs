//! Parses every request path into a route, and prints the path that is sent upstream from it.
//!
//! A path that is not exactly an endpoint of the distribution-spec is [`Route::Other`] and is never cached. A path that is
//! not in canonical form is refused, so that no server can read another request in it than the one that was checked.

use std::fmt;

use super::path::{BadPath, PlainPath, is_plain};
use crate::oci::{Digest, Reference, Repository};

/// The meaning of a request path. It prints as the path that is sent upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: whether this is a registry, and whether it requires credentials (spec: end-1).
    Ping,
    /// `/v2/NAME/manifests/REFERENCE` (end-3, end-7, end-9).
    Manifest(Repository, Reference),
    /// `/v2/NAME/blobs/DIGEST` (end-2, end-10).
    Blob(Repository, Digest),
    /// `/v2/NAME/blobs/uploads/`, or one upload by the name that the registry gave it (end-4 to end-6, end-11, end-13).
    Upload(Repository, Option<String>),
    /// `/v2/NAME/tags/list` (end-8).
    Tags(Repository),
    /// `/v2/NAME/referrers/DIGEST` (end-12).
    Referrers(Repository, Digest),
    /// Any other path: of a token service, a catalog, a name outside the grammar, a digest of another algorithm.
    Other(PlainPath),
}

impl Route {
    /// Parses the path of a request, without its query, to the host of a registry or of its token service.
    ///
    /// # Errors
    /// [`BadPath`] for a path that is not in its printed form and that some server could read as one under `/v2/`.
    pub fn parse(path: &str) -> Result<Self, BadPath> {
        match path.strip_prefix("/v2") {
            Some("" | "/") => Ok(Self::Ping),
            Some(rest) if rest.starts_with('/') => match parse_named(&rest[1..]) {
                Some(route) => Ok(route),
                None => PlainPath::under_v2(path).map(Self::Other),
            },
            _ => PlainPath::outside(path).map(Self::Other),
        }
    }

    /// The repository that it names.
    #[must_use]
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Upload(name, _)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
            Self::Ping | Self::Other(_) => None,
        }
    }

    /// The same request in `repository`. `None` where it names none.
    #[must_use]
    pub fn within(&self, repository: Repository) -> Option<Self> {
        Some(match self {
            Self::Manifest(_, reference) => Self::Manifest(repository, reference.clone()),
            Self::Blob(_, digest) => Self::Blob(repository, *digest),
            Self::Upload(_, upload) => Self::Upload(repository, upload.clone()),
            Self::Tags(_) => Self::Tags(repository),
            Self::Referrers(_, digest) => Self::Referrers(repository, *digest),
            Self::Ping | Self::Other(_) => return None,
        })
    }

    /// Whether a registry could take it for a request of the protocol; then rules and `push` apply to it.
    #[must_use]
    pub fn is_of_protocol(&self) -> bool {
        match self {
            Self::Other(path) => path.is_of_protocol(),
            _ => true,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping => f.write_str("/v2/"),
            Self::Manifest(name, reference) => write!(f, "/v2/{name}/manifests/{reference}"),
            Self::Blob(name, digest) => write!(f, "/v2/{name}/blobs/{digest}"),
            Self::Upload(name, upload) => {
                write!(f, "/v2/{name}/blobs/uploads/{}", upload.as_deref().unwrap_or_default())
            }
            Self::Tags(name) => write!(f, "/v2/{name}/tags/list"),
            Self::Referrers(name, digest) => write!(f, "/v2/{name}/referrers/{digest}"),
            Self::Other(path) => path.fmt(f),
        }
    }
}

/// Parses the endpoints of a repository. A name may itself contain `blobs` or `manifests` as a component, so the endings
/// are read from the right, and only those of the specification: to a registry, `a/blobs/uploads/manifests/x` is a
/// manifest of `a/blobs/uploads`.
fn parse_named(rest: &str) -> Option<Route> {
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some(Route::Tags(name.parse().ok()?));
    }
    let (head, last) = rest.rsplit_once('/')?;
    if let Some(name) = head.strip_suffix("/blobs/uploads") {
        let upload = (!last.is_empty()).then(|| last.to_owned());
        return upload.as_deref().is_none_or(is_plain).then_some(Route::Upload(name.parse().ok()?, upload));
    }
    let (name, noun) = head.rsplit_once('/')?;
    let name = name.parse().ok()?;
    match noun {
        "blobs" if last == "uploads" => Some(Route::Upload(name, None)),
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
            ("/v2/a/blobs/uploads/".to_owned(), Route::Upload(name("a"), None)),
            ("/v2/a/blobs/uploads".to_owned(), Route::Upload(name("a"), None)),
            ("/v2/a/blobs/uploads/0-1_2=".to_owned(), Route::Upload(name("a"), Some("0-1_2=".into()))),
            ("/v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            (format!("/v2/a/referrers/sha256:{HEX}"), Route::Referrers(name("a"), digest)),
            // As registries read it, whose names may hold any component.
            (
                "/v2/a/blobs/uploads/manifests/b".to_owned(),
                Route::Manifest(name("a/blobs/uploads"), "b".parse().unwrap()),
            ),
        ];
        for (path, expected) in table {
            assert_eq!(Route::parse(&path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn a_route_moves_to_another_repository_and_keeps_the_rest() {
        for rest in ["manifests/3.20", "blobs/uploads/", "blobs/uploads/0-1", "tags/list"] {
            let moved = Route::parse(&format!("/v2/a/{rest}")).unwrap().within(name("library/b"));
            assert_eq!(moved.map(|route| route.to_string()), Some(format!("/v2/library/b/{rest}")));
        }
        for rest in ["blobs", "referrers", "manifests"] {
            let moved = Route::parse(&format!("/v2/a/{rest}/sha256:{HEX}")).unwrap().within(name("b"));
            assert_eq!(moved.map(|route| route.to_string()), Some(format!("/v2/b/{rest}/sha256:{HEX}")));
        }
        assert_eq!(Route::Ping.within(name("b")), None);
        assert_eq!(Route::parse("/v2/_catalog").unwrap().within(name("b")), None);
    }

    #[test]
    fn what_is_no_endpoint_is_passed_on_as_it_is_printed() {
        let paths = [
            "/",
            "/v1/",
            "/v22/",
            "/v2/auth",
            "/v2/_catalog",
            "/v2/A/manifests/a",
            "/v2/a/blobs/md5:00",
            "/v2/a/blobs/upload/0-1-2",
            "/v2/a/blobs/uploads/b/c",
            "/token",
            "/v2/manifests/latest",
            "/v2/a/manifests/",
            "/v2/a/tags/list/",
        ];
        for path in paths {
            let route = Route::parse(path).unwrap();
            assert!(matches!(route, Route::Other(_)), "{path}");
            assert_eq!(route.to_string(), path);
        }
    }

    #[test]
    fn what_has_no_canonical_form_is_refused() {
        let paths = [
            "",
            "*",
            "/v2//manifests/a",
            "/v2//",
            "/v2/a/../b/manifests/c",
            "/v2/%69nternal/app/manifests/latest",
            "/v2/internal%2Fapp/manifests/latest",
            "/v2/internal/app/manifest%73/latest",
            "/v2/a/blobs/sha256%3Aabc",
            "/v2/a/manifests/latest;x",
            "/v2/a/blobs/uploads/%2e%2e",
            "/v2/a/blobs/uploads/..",
            "/%762/a/manifests/latest",
        ];
        for path in paths {
            assert_eq!(Route::parse(path), Err(BadPath), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_route_is_what_it_prints(path in "(/v2)?/?([a-z2./;%-]|%[2-7][0-9a-f]|/|manifests|blobs|uploads|tags|list|.){0,40}") {
            if let Ok(route) = Route::parse(&path) {
                proptest::prop_assert_eq!(Route::parse(&route.to_string()), Ok(route));
            }
        }
    }
}
