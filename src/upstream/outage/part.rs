//! The parts of a registry that can be away by themselves, and the evidence that counts against them.

use http::uri::PathAndQuery;

use crate::oci::{Authority, Digest};
use crate::upstream::Endpoint;

/// The part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutagePart {
    /// The registry itself: all of its endpoints that decide.
    Home,
    /// Its token service.
    Realm(Endpoint),
    /// A host that it redirected to.
    Elsewhere(Authority),
}

impl OutagePart {
    /// The host that it is; `None` for the registry itself, which may have several.
    pub(crate) fn host(&self) -> Option<&Authority> {
        match self {
            Self::Home => None,
            Self::Realm(endpoint) => Some(endpoint.authority()),
            Self::Elsewhere(host) => Some(host),
        }
    }
}

/// Whether an error of the registry's about `target` may be about the registry. A client can ask for lists, for algorithms
/// that nobody knows and for pages as it likes, and get an error each time.
pub(crate) fn is_telling(target: &PathAndQuery) -> bool {
    if target.query().is_some() {
        return false;
    }
    let path = target.path();
    if path.ends_with("/v2/") {
        return true;
    }
    let mut segments = path.rsplit('/');
    let (last, kind) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    match kind {
        "manifests" => !last.contains(':') || last.parse::<Digest>().is_ok(),
        "blobs" => last.parse::<Digest>().is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_makes_up_tells_nothing() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let table = [
            ("/v2/".to_owned(), true),
            ("/prefix/v2/".to_owned(), true),
            ("/v2/a/manifests/1".to_owned(), true),
            (format!("/v2/a/manifests/{digest}"), true),
            (format!("/v2/a/blobs/{digest}"), true),
            (format!("/v2/a/blobs/{digest}?x=1"), false),
            ("/v2/a/manifests/md5:00".to_owned(), false),
            (format!("/v2/a/manifests/sha384:{}", "0".repeat(64)), false),
            ("/v2/a/tags/list".to_owned(), false),
            (format!("/v2/a/referrers/{digest}"), false),
            ("/v2/_catalog".to_owned(), false),
            ("/slow/page".to_owned(), false),
        ];
        for (target, expected) in table {
            assert_eq!(is_telling(&target.parse().unwrap()), expected, "{target}");
        }
    }
}
