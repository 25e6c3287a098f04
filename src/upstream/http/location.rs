//! Resolves a `Location` header against the URI that was asked (RFC 9110, 10.2.2; RFC 3986, 5.2).
//!
//! A signed URL is valid as it is written: what stands in it is neither normalised nor decoded.

use http::uri::{PathAndQuery, Uri};

use crate::oci::Authority;
use crate::upstream::Endpoint;
use crate::upstream::endpoint::implied_port;

/// The target of one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) secure: bool,
    pub(crate) authority: Authority,
    pub(crate) target: PathAndQuery,
}

/// Reads `location`, relative to `base`. `None`: it is no http or https URL, or holds credentials.
pub(crate) fn resolve(base: &Location, location: &[u8]) -> Option<Location> {
    let text = escaped(location);
    let text = text.split('#').next().unwrap_or_default();
    let (secure, rest) = match scheme(text) {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(_) => return None,
        None => (base.secure, text),
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let authority = Authority::parse(authority, implied_port(secure)).ok()?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        return Some(Location { secure, authority, target: format!("{slash}{target}").parse().ok()? });
    }
    if scheme(text).is_some() || rest.is_empty() {
        return None; // `https:path` and an empty reference lead nowhere new
    }
    let target = relative(base.target.path(), rest).parse().ok()?;
    Some(Location { target, ..base.clone() })
}

/// Where `reference` leads, in the answer of `endpoint` to `asked`: to which host, and to what there.
pub(crate) fn led_to(endpoint: &Endpoint, asked: &PathAndQuery, reference: &[u8]) -> Option<(Authority, PathAndQuery)> {
    let target = endpoint.uri(asked)?.path_and_query()?.clone();
    let base = Location { secure: endpoint.is_secure(), authority: endpoint.authority().clone(), target };
    resolve(&base, reference).map(|led| (led.authority, led.target))
}

impl Location {
    /// As a URI for the client.
    pub(crate) fn uri(&self) -> Option<Uri> {
        crate::upstream::endpoint::absolute(self.secure, &self.authority, self.target.clone())
    }

    /// Whether both are one scheme, host and port.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure && self.authority == other.authority
    }
}

/// Bytes that no URI may hold, but some servers send, are percent-encoded, as browsers do.
fn escaped(location: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(location.len());
    for &byte in location.trim_ascii() {
        if byte.is_ascii_graphic() {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
    text
}

/// The scheme, in lower case if it is http or https, and what follows its colon.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(plain) {
        return None;
    }
    let known = ["https", "http"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known));
    Some((known.unwrap_or(scheme), rest))
}

fn relative(base: &str, reference: &str) -> String {
    if reference.starts_with('/') {
        return reference.to_owned();
    }
    if reference.starts_with('?') {
        return format!("{base}{reference}");
    }
    let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
    let mut segments: Vec<&str> = base.split('/').collect();
    segments.pop();
    let mut folder = false;
    for segment in path.split('/') {
        folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." if segments.len() > 1 => {
                segments.pop();
            }
            ".." => {}
            segment => segments.push(segment),
        }
    }
    let end = if folder { "/" } else { "" };
    format!("/{}{end}{query}", segments.join("/").trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Location {
        let authority = Authority::parse("r.example.com", 443).unwrap();
        Location { secure: true, authority, target: "/v2/a/blobs/x?n=1".parse().unwrap() }
    }

    #[test]
    fn locations_lead_where_the_rfc_says() {
        let table = [
            ("https://cdn.example.com/a?b=c%2F..%2Fd", "https://cdn.example.com/a?b=c%2F..%2Fd"),
            ("HTTP://CDN.example.com:80/", "http://cdn.example.com/"),
            ("https://cdn.example.com", "https://cdn.example.com/"),
            ("https://cdn.example.com?x", "https://cdn.example.com/?x"),
            ("https://cdn.example.com:8443/a/../b", "https://cdn.example.com:8443/a/../b"),
            ("https://[2001:db8::1]/x", "https://[2001:db8::1]/x"),
            ("//cdn.example.com/a", "https://cdn.example.com/a"),
            ("/artifacts-downloads/x?y#z", "https://r.example.com/artifacts-downloads/x?y"),
            ("y", "https://r.example.com/v2/a/blobs/y"),
            ("./y/z?q=a:b", "https://r.example.com/v2/a/blobs/y/z?q=a:b"),
            ("../y", "https://r.example.com/v2/a/y"),
            ("../../../../../y", "https://r.example.com/y"),
            ("..", "https://r.example.com/v2/a/"),
            ("?n=2", "https://r.example.com/v2/a/blobs/x?n=2"),
            (" /a b\u{e9} ", "https://r.example.com/a%20b%C3%A9"),
        ];
        for (location, expected) in table {
            let uri = resolve(&base(), location.as_bytes()).and_then(|place| place.uri());
            assert_eq!(uri.map(|uri| uri.to_string()).as_deref(), Some(expected), "{location}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let locations = [
            "",
            "#x",
            "ftp://h/",
            "javascript:alert(1)",
            "https:a",
            "https://",
            "https://u:p@h/",
            "https://h:x/",
            "//",
        ];
        for location in locations {
            assert_eq!(resolve(&base(), location.as_bytes()), None, "{location}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(location: Vec<u8>, text in "[a-z./?#:%]{0,30}") {
            let _ = resolve(&base(), &location);
            let place = resolve(&base(), text.as_bytes());
            proptest::prop_assert!(place.is_none_or(|place| place.uri().is_some()));
        }
    }
}
