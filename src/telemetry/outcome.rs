//! Names the kinds of requests and the origins of answers, with one vocabulary for header, log and metrics.

use crate::oci::Route;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `/v2/`.
    Ping,
    /// A token service's answer.
    Token,
    /// A manifest, by tag or digest.
    Manifest,
    /// A blob.
    Blob,
    /// The list of a repository's tags.
    Tags,
    /// The referrers of a manifest.
    Referrers,
    /// Part of a push.
    Upload,
    /// Anything else.
    Other,
}

impl Kind {
    /// How many there are.
    pub(super) const COUNT: usize = 8;

    /// The word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Token => "token",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::Upload => "upload",
            Self::Other => "other",
        }
    }
}

impl From<&Route> for Kind {
    /// A path does not show that it belongs to a token service; the caller that knows it sets [`Kind::Token`].
    fn from(route: &Route) -> Self {
        match route {
            Route::Ping => Self::Ping,
            Route::Manifest(..) => Self::Manifest,
            Route::Blob(..) => Self::Blob,
            Route::Upload(..) => Self::Upload,
            Route::Tags(_) => Self::Tags,
            Route::Referrers(..) => Self::Referrers,
            Route::Other(_) => Self::Other,
        }
    }
}

/// The origin of an answer, in the words of RFC 9211 where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The cache, without a request upstream.
    Hit,
    /// The upstream.
    Miss,
    /// A fetch that was already in progress.
    Collapsed,
    /// The last known answer, because the upstream failed.
    Stale,
    /// The cache, after revalidation upstream.
    Revalidated,
    /// The upstream, for an answer that is not cacheable.
    Bypass,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 6] =
        [Self::Hit, Self::Miss, Self::Collapsed, Self::Stale, Self::Revalidated, Self::Bypass];

    /// The word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Bypass => "bypass",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_kind() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let table = [
            ("/v2/".to_owned(), "ping"),
            ("/v2/a/manifests/1".to_owned(), "manifest"),
            (format!("/v2/a/blobs/{digest}"), "blob"),
            ("/v2/a/blobs/uploads/".to_owned(), "upload"),
            ("/v2/a/tags/list".to_owned(), "tags"),
            (format!("/v2/a/referrers/{digest}"), "referrers"),
            ("/token".to_owned(), "other"),
        ];
        for (path, kind) in table {
            assert_eq!(Kind::from(&Route::parse(&path).unwrap()).label(), kind, "{path}");
        }
    }
}
