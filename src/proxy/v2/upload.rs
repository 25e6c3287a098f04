//! Reads what a write to a registry says: what is pushed, to which upload, and where that goes on.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use http::{Method, Uri};

use crate::oci::{Algorithm, Digest, Query, Reference, Route};
use crate::proxy::respond;

/// What a write is about, as far as the cache can learn from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// `PUT .../manifests/REFERENCE`. The digest is the one that the client asks for.
    Manifest { reference: Reference, digest: Option<Digest>, media_type: Option<String> },
    /// `POST .../blobs/uploads/`: an upload begins, and may bring all of a blob, or ask for one of another repository.
    Begin { algorithm: Algorithm, digest: Option<Digest>, mount: Option<Digest> },
    /// `PATCH` or `PUT` to an upload. The last one says the digest.
    Chunk { location: String, from: Option<u64>, digest: Option<Digest> },
    /// `DELETE` of an upload.
    Cancel { location: String },
    /// `DELETE` of a tag or a manifest.
    DeleteManifest(Reference),
    /// `DELETE` of a blob.
    DeleteBlob(Digest),
    /// Anything else.
    Other,
}

impl Write {
    /// Reads a request as it was judged.
    pub(super) fn of(method: &Method, uri: &Uri, route: &Route, headers: &HeaderMap) -> Self {
        let query = Query::parse(uri.query().unwrap_or_default()).unwrap_or_default();
        let named = |name: &'static str| query.only(name).ok().flatten();
        let digest = |name: &'static str| named(name).and_then(|digest| digest.parse::<Digest>().ok());
        match (method.as_str(), route) {
            ("PUT", Route::Manifest(_, reference)) => Self::Manifest {
                digest: if let Reference::Digest(digest) = reference { Some(*digest) } else { digest("digest") },
                reference: reference.clone(),
                media_type: text(headers.get(CONTENT_TYPE)).map(str::to_owned),
            },
            ("DELETE", Route::Manifest(_, reference)) => Self::DeleteManifest(reference.clone()),
            ("DELETE", Route::Blob(_, digest)) => Self::DeleteBlob(*digest),
            ("POST", Route::Upload(_, None)) => {
                let (digest, mount) = (digest("digest"), digest("mount"));
                let is_sha512 = named("digest-algorithm") == Some("sha512");
                let said = if is_sha512 { Algorithm::Sha512 } else { Algorithm::Sha256 };
                let algorithm = digest.map_or(said, |digest| digest.algorithm());
                Self::Begin { algorithm, digest, mount }
            }
            (_, Route::Upload(..)) => {
                let location = print(uri.path(), uri.query().unwrap_or_default());
                match (method.as_str(), location) {
                    ("PATCH" | "PUT", Some(location)) => {
                        Self::Chunk { location, from: begins(headers), digest: digest("digest") }
                    }
                    ("DELETE", Some(location)) => Self::Cancel { location },
                    _ => Self::Other,
                }
            }
            _ => Self::Other,
        }
    }
}

/// Where an upload goes on, as its client will ask for it: the host is left out, since registries name theirs in many ways.
pub(super) fn location(asked: &Uri, headers: &HeaderMap) -> Option<String> {
    let said = text(headers.get(LOCATION))?.split('#').next()?;
    let said = match said.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => said.strip_prefix("//").map_or(said, |rest| rest.find('/').map_or("/", |at| &rest[at..])),
    };
    let (path, query) = said.split_once('?').unwrap_or((said, ""));
    if path.starts_with('/') {
        return print(path, query);
    }
    let (folder, _) = asked.path().rsplit_once('/')?;
    print(&format!("{folder}/{path}"), query)
}

/// The one spelling of an upload's location, without the digest that its last request adds.
fn print(path: &str, query: &str) -> Option<String> {
    let route = Route::parse(path).ok()?;
    let query = Query::parse(query).ok()?;
    let mut pairs: Vec<(&str, &str)> = query.iter().filter(|(name, _)| *name != "digest").collect();
    pairs.sort_unstable(); // Go prints them in order, whatever order they came in
    Some(pairs.iter().fold(route.to_string(), |printed, (name, value)| format!("{printed}\0{name}\0{value}")))
}

/// The position of a chunk's first byte: `0-99`, or as RFC 9110 has it, `bytes 0-99/*`.
fn begins(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get(CONTENT_RANGE)?;
    let first = || text(Some(said))?.trim_start_matches("bytes").trim_start().split_once('-')?.0.parse().ok();
    Some(first().unwrap_or(u64::MAX)) // what cannot be read begins nowhere
}

/// How many bytes of an upload a registry says that it has: `Range: 0-99`. It cannot say that it has none.
pub(super) fn received(headers: &HeaderMap) -> Option<u64> {
    let last: u64 = text(headers.get(RANGE))?.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(last.saturating_add(1)).filter(|length| *length > 1)
}

/// The digest under which a registry says that it accepted something; `None` where it says none that can be verified.
pub(super) fn accepted(headers: &HeaderMap) -> Option<Digest> {
    text(headers.get(respond::CONTENT_DIGEST))?.parse().ok()
}

/// The length that a request says.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers.get(CONTENT_LENGTH))?.parse().ok()
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    fn chunk(uri: &str) -> Option<String> {
        let uri: Uri = uri.parse().unwrap();
        match Write::of(&Method::PATCH, &uri, &Route::parse(uri.path()).unwrap(), &HeaderMap::new()) {
            Write::Chunk { location, .. } => Some(location),
            _ => None,
        }
    }

    #[test]
    fn an_upload_is_found_again_where_its_registry_said_that_it_goes_on() {
        let asked = "/v2/a/b/blobs/uploads/".parse().unwrap();
        let table = [
            ("/v2/a/b/blobs/uploads/1?_state=x", "/v2/a/b/blobs/uploads/1?_state=x"),
            ("/v2/a/b/blobs/uploads/1?_state=x", "/v2/a/b/blobs/uploads/1?_state=x&digest=sha256:0"),
            ("https://other.test:5000/v2/a/b/blobs/uploads/1?b=2&a=1", "/v2/a/b/blobs/uploads/1?a=1&b=2"),
            ("//other.test/v2/a/b/blobs/uploads/1", "/v2/a/b/blobs/uploads/1"),
            ("1?_state=x", "/v2/a/b/blobs/uploads/1?_state=x"),
        ];
        for (said, asked_next) in table {
            let goes_on = location(&asked, &headers("location", said));
            assert!(goes_on.is_some() && goes_on == chunk(asked_next), "{said} {asked_next}");
        }
        for (said, other) in
            [("/v2/a/blobs/uploads/1?s=1", "/v2/a/blobs/uploads/1?s=2"), ("1", "/v2/a/b/blobs/uploads/2")]
        {
            assert_ne!(location(&asked, &headers("location", said)), chunk(other));
        }
        assert_eq!(location(&asked, &HeaderMap::new()), None);
    }

    #[test]
    fn ranges_say_where_a_chunk_begins_and_how_much_has_come() {
        for (said, expected) in [("5-9", 5), ("bytes 5-9/10", 5), ("bytes 5-9/*", 5), ("nothing", u64::MAX)] {
            assert_eq!(begins(&headers("content-range", said)), Some(expected), "{said}");
        }
        assert_eq!(begins(&HeaderMap::new()), None);
        for (said, expected) in [("0-9", Some(10)), ("bytes=0-9", Some(10)), ("0-0", None), ("5-9", None), ("x", None)]
        {
            assert_eq!(received(&headers("range", said)), expected, "{said}");
        }
    }
}
