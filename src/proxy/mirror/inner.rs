//! Makes the request that a registry gets of the one that came: its host, its path, and no credentials of others.
//!
//! Threat: a client's password for the mirror, or for one registry, reaches another; a path is judged in one form and sent in
//! another. Defence: path and query are printed from what was judged, `Authorization` goes along only where the name stands
//! for this registry alone, cookies never.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Uri};

use crate::oci::{Authority, Query, Route};
use crate::proxy::naming::resolve::MirrorTargetRoute;
use crate::wire::Received;

/// Why there is no such request.
#[derive(Debug, thiserror::Error)]
#[error("the path or the query cannot be forwarded")]
pub(super) struct NoRequest;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The scheme that the client speaks, where a balancer took TLS off before `scheme`: of several, the first one had the client.
/// A client that makes it up is shown URLs that it cannot use, and nobody else is.
pub(super) fn clients_scheme(scheme: &'static str, headers: &HeaderMap) -> &'static str {
    let mut said = headers.get_all(FORWARDED_PROTO).iter();
    let (Some(first), None) = (said.next(), said.next()) else { return scheme };
    let first = first.as_bytes().split(|&byte| byte == b',').next().unwrap_or_default();
    if first.trim_ascii().eq_ignore_ascii_case(b"https") { "https" } else { scheme }
}

/// The request to `target`. `query` is without `ns`.
///
/// # Errors
/// [`NoRequest`].
pub(super) fn request(
    mut parts: Parts,
    body: Received,
    target: &MirrorTargetRoute,
    query: &Query,
    takes_credentials: bool,
) -> Result<Request<Received>, NoRequest> {
    let host = target.authority.short(443);
    parts.uri = uri(&host, &target.route, query).ok_or(NoRequest)?;
    parts.headers.insert(HOST, HeaderValue::from_str(&host).map_err(|_| NoRequest)?);
    if !takes_credentials {
        parts.headers.remove(AUTHORIZATION);
    }
    parts.headers.remove(COOKIE);
    Ok(Request::from_parts(parts, body))
}

fn uri(host: &Arc<str>, route: &Route, query: &Query) -> Option<Uri> {
    let path = route.to_string();
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    let target: PathAndQuery = target.parse().ok()?;
    Uri::builder().scheme(Scheme::HTTPS).authority(&**host).path_and_query(target).build().ok()
}

/// A mounted blob's repository by the registry's own name; without one there, the push is an upload like any other.
pub(super) fn mounting(query: &Query, own: impl FnOnce(&str) -> Option<String>) -> Query {
    match query.only("from") {
        Ok(Some(from)) => match own(from) {
            Some(name) => query.with("from", &name),
            None => query.without("from").without("mount"),
        },
        Ok(None) | Err(_) => query.clone(), // what is ambiguous is refused where it is judged
    }
}

/// The host that the client calls the mirror: of an absolute target, else of `Host`.
pub(super) fn host_of<B>(request: &Request<B>, implied: u16) -> Option<Authority> {
    let header = || request.headers().get(HOST)?.to_str().ok();
    let text = request.uri().authority().map(http::uri::Authority::as_str).or_else(header)?;
    Authority::parse(text, implied).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(headers: &[(&str, &str)], route: &str, query: &str, takes: bool) -> Request<Received> {
        let mut request = Request::builder().uri("http://mirror.example.org/v2/x?ns=quay.io");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let authority = Authority::parse("quay.io", 443).unwrap();
        let target = MirrorTargetRoute { authority, route: Route::parse(route).unwrap() };
        self::request(parts, Received::empty(), &target, &Query::parse(query).unwrap(), takes).unwrap()
    }

    #[test]
    fn the_registry_gets_its_own_host_and_path_and_the_clients_other_fields() {
        let fields = [("host", "mirror.example.org"), ("range", "bytes=5-"), ("accept", "a/b"), ("if-none-match", "x")];
        let request = inner(&fields, "/v2/org/app/manifests/1", "n=1", false);
        assert_eq!(request.uri(), "https://quay.io/v2/org/app/manifests/1?n=1");
        assert_eq!(request.headers()["host"], "quay.io");
        for (name, value) in &fields[1..] {
            assert_eq!(request.headers()[*name], *value);
        }
    }

    #[test]
    fn credentials_go_along_only_where_the_name_is_the_registrys_and_cookies_never() {
        let (basic, token) = ("Basic dTpw", "Bearer pullthrough-local-1.abc");
        let sent = |values: &[&str], route, takes| {
            let mut fields: Vec<(&str, &str)> = values.iter().map(|value| ("authorization", *value)).collect();
            fields.push(("cookie", "a=b"));
            let request = inner(&fields, route, "", takes);
            assert!(!request.headers().contains_key("cookie"));
            request.headers().get_all("authorization").iter().count()
        };
        for value in [basic, token, "Bearer other"] {
            assert_eq!(sent(&[value], "/v2/a/tags/list", true), 1, "{value}");
            assert_eq!(sent(&[value], "/v2/a/tags/list", false), 0, "{value}");
        }
        assert_eq!(sent(&[token], "/v2/", false), 0);
        assert_eq!(sent(&[token, basic], "/v2/", false), 0);
    }

    #[test]
    fn a_mount_names_the_registrys_own_repository_or_none() {
        let mounted = |query: &str| {
            let own = |from: &str| from.strip_prefix("hub/").map(|rest| format!("library/{rest}"));
            mounting(&Query::parse(query).unwrap(), own).to_string()
        };
        assert_eq!(mounted("mount=sha256:0&from=hub/a"), "mount=sha256:0&from=library/a");
        assert_eq!(mounted("mount=sha256:0&from=other/a&x=1"), "x=1");
        assert_eq!(mounted("mount=sha256:0"), "mount=sha256:0");
        assert_eq!(mounted("from=a&From=b"), "from=a&From=b");
    }
}
