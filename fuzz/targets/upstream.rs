//! What an upstream answers a redirect with, and the targets of the rooms below.

pub use super::auth::token::fuzzing::token_answer;
pub use super::credentials::fuzzing::docker_config;
pub use super::net::resolver::fuzzing::dns;

use super::http::location::{Location, resolve};
use crate::oci::Authority;

/// A `Location` header, seen from an https and from an http URI.
///
/// It leads to http or https and nowhere else, never with a user or a password, and never into another host than the
/// one that a plain reader of the printed URI finds. Where it leads is not read in another way a second time.
pub fn location(data: &[u8]) {
    for (secure, target) in [(true, "/v2/a/blobs/x?n=1"), (false, "/"), (true, "/v2/a/../b;c/%2e%2e/d")] {
        let authority = Authority::parse("r.example.com:8443", 443).unwrap();
        let base = Location { secure, authority, target: target.parse().unwrap() };
        let Some(place) = resolve(&base, data) else { continue };
        let uri = place.uri().expect("a place has a URI").to_string();
        let (scheme, rest) = uri.split_once("://").unwrap();
        assert_eq!(scheme, if place.secure { "https" } else { "http" });
        let at = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        assert!(!host.contains('@') && path.starts_with('/'), "{uri}");
        assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()) && !uri.contains('#'), "{uri}");
        let implied = if place.secure { 443 } else { 80 };
        assert_eq!(Authority::parse(host, implied).as_ref(), Ok(&place.authority));
        assert_eq!(resolve(&base, uri.as_bytes()).as_ref(), Some(&place), "{uri}");
        let is_relative = !data.trim_ascii().starts_with(b"//") && !data.contains(&b':');
        assert!(!is_relative || place.same_origin(&base), "{uri}");
    }
}
