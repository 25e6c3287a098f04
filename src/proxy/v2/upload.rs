//! Reads what a write to a registry says: what is pushed, to which upload, and where that goes on.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use http::{Method, StatusCode, Uri};

use crate::oci::{Algorithm, Digest, Query, Reference, Route, Tag};
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

/// The tags that a write may change, each once: the one in its path comes first, then those that a manifest's push lists (`?tag=`, distribution-spec 1.2).
pub(super) fn written_tags(method: &Method, uri: &Uri, route: &Route) -> Vec<Tag> {
    let Route::Manifest(_, reference) = route else { return Vec::new() };
    if *method == Method::OPTIONS {
        return Vec::new();
    }
    let query = Query::parse(uri.query().unwrap_or_default()).unwrap_or_default();
    let listed =
        query.iter().filter(|(name, _)| name.eq_ignore_ascii_case("tag")).flat_map(|(_, tags)| tags.split(','));
    let mut written = Vec::new();
    if let Reference::Tag(tag) = reference {
        written.push(tag.clone());
    }
    for tag in tags(listed) {
        if !written.contains(&tag) {
            written.push(tag);
        }
    }
    written
}

/// The tags that a registry says it has set: `OCI-Tag`.
pub(super) fn tagged(headers: &HeaderMap) -> Vec<Tag> {
    let said = headers.get_all("oci-tag").into_iter().filter_map(|value| value.to_str().ok());
    tags(said.flat_map(|tags| tags.split(','))).collect()
}

fn tags<'a>(said: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Tag> {
    said.filter_map(|tag| tag.trim().parse().ok())
}

/// What came of a write, as far as the registry said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteEnd {
    /// It changed nothing.
    Refused,
    /// It has taken effect.
    Done,
    /// It may have taken effect, or may do so later.
    InDoubt,
}

impl WriteEnd {
    /// By the answer's status, if the registry may have acted at all.
    pub(super) fn of(method: &Method, status: StatusCode, may_have_acted: bool) -> Self {
        let deletes = *method == Method::DELETE;
        match status {
            _ if !may_have_acted => Self::Refused,
            StatusCode::NOT_FOUND | StatusCode::GONE if deletes => Self::Done,
            StatusCode::ACCEPTED if !deletes => Self::InDoubt,
            StatusCode::REQUEST_TIMEOUT => Self::InDoubt,
            _ if status.is_success() => Self::Done,
            _ if status.is_client_error() => Self::Refused,
            _ => Self::InDoubt,
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
    named(headers).next()
}

/// Whether the registry accepted this content, as far as it says.
pub(super) fn is_of(headers: &HeaderMap, digest: &Digest) -> bool {
    named(headers).all(|named| named == *digest)
}

/// Whether the registry itself names this content, and no other.
pub(super) fn proves(headers: &HeaderMap, digest: &Digest) -> bool {
    let said = digest.to_string();
    let is_said = headers.get_all(respond::CONTENT_DIGEST).into_iter().all(|value| *value == *said);
    is_said && accepted(headers).is_some() && is_of(headers, digest)
}

/// The digests that a registry names in `Docker-Content-Digest` and at the end of the path of `Location`.
fn named(headers: &HeaderMap) -> impl Iterator<Item = Digest> {
    let said = text(headers.get(respond::CONTENT_DIGEST)).and_then(|said| said.parse().ok());
    let located = text(headers.get(LOCATION)).and_then(|location| {
        let path = location.split(['?', '#']).next()?;
        let last = path.rsplit('/').next()?;
        last.replace("%3A", ":").replace("%3a", ":").parse().ok()
    });
    said.into_iter().chain(located)
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
    fn a_registry_names_what_it_accepted_in_either_header_and_says_one_thing() {
        let digest = |content: &[u8]| Digest::of(Algorithm::Sha256, content);
        let (one, other) = (digest(b"one"), digest(b"other"));
        let said = |content_digest: Option<Digest>, location: &str| {
            let mut headers = headers("location", location);
            content_digest.map(|digest| headers.insert(respond::CONTENT_DIGEST, digest.to_string().parse().unwrap()));
            headers
        };
        let escaped = one.to_string().replace(':', "%3A");
        let mut twice = said(Some(one), "/v2/a/blobs/x");
        twice.append(respond::CONTENT_DIGEST, other.to_string().parse().unwrap());
        // Headers, whether they may be about the one, and whether they are.
        let table = [
            (said(None, "/v2/a/blobs/x"), true, false),
            (said(None, &format!("https://r.test/v2/a/blobs/{one}?x={other}")), true, true),
            (said(None, &format!("/v2/a/blobs/{escaped}")), true, true),
            (said(None, &format!("/v2/a/blobs/{other}")), false, false),
            (said(None, &format!("/v2/a/blobs/x?mount={one}")), true, false),
            (said(Some(one), "/v2/a/blobs/x"), true, true),
            (said(Some(one), &format!("/v2/a/blobs/{other}")), false, false),
            (said(Some(other), &format!("/v2/a/blobs/{one}")), false, false),
            (HeaderMap::new(), true, false),
            (twice, true, false),
        ];
        for (headers, may_be, is) in table {
            assert_eq!((is_of(&headers, &one), proves(&headers, &one)), (may_be, is), "{headers:?}");
        }
    }

    #[test]
    fn every_tag_that_a_write_may_change_is_found() {
        let digest = Digest::of(Algorithm::Sha256, b"one");
        let table = [
            ("PUT", "/v2/a/manifests/1".to_owned(), vec!["1"]),
            ("DELETE", "/v2/a/manifests/1".to_owned(), vec!["1"]),
            ("POST", "/v2/a/manifests/1".to_owned(), vec!["1"]),
            ("OPTIONS", "/v2/a/manifests/1".to_owned(), vec![]),
            (
                "PUT",
                format!("/v2/a/manifests/{digest}?tag=1&Tag=2&tag=%33&tag=4,5&tag=a/b"),
                vec!["1", "2", "3", "4", "5"],
            ),
            ("PUT", "/v2/a/manifests/1?tag=2&tag=1".to_owned(), vec!["1", "2"]),
            ("PUT", "/v2/a/blobs/uploads/1?tag=2".to_owned(), vec![]),
        ];
        for (method, uri, expected) in table {
            let uri: Uri = uri.parse().unwrap();
            let found = written_tags(&method.parse().unwrap(), &uri, &Route::parse(uri.path()).unwrap());
            assert_eq!(found.iter().map(Tag::as_str).collect::<Vec<_>>(), expected, "{method} {uri}");
        }
        let said = headers("oci-tag", "1, 2");
        assert_eq!(tagged(&said).iter().map(Tag::as_str).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_write_is_in_doubt_unless_the_registry_told_what_came_of_it() {
        use WriteEnd::{Done, InDoubt, Refused};
        let table = [
            ("PUT", 201, true, Done),
            ("PUT", 200, true, Done),
            ("PUT", 202, true, InDoubt),
            ("DELETE", 202, true, Done),
            ("DELETE", 404, true, Done),
            ("PUT", 404, true, Refused),
            ("PUT", 401, true, Refused),
            ("PUT", 408, true, InDoubt),
            ("PUT", 307, true, InDoubt),
            ("PUT", 504, true, InDoubt),
            ("PUT", 502, false, Refused),
            ("DELETE", 503, false, Refused),
        ];
        for (method, status, may_have_acted, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(WriteEnd::of(&method.parse().unwrap(), status, may_have_acted), expected, "{method} {status}");
        }
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
