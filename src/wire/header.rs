//! Removes the headers that belong to one connection before a message is forwarded.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use http::Version;
use http::header::{
    CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};

/// Removes the headers that must not be forwarded (RFC 9110, 7.6.1): those that `Connection` names, the hop-by-hop
/// headers themselves, and the credentials for this proxy. Cookies become one field (RFC 9113, 8.2.3).
pub fn end_to_end(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate"] {
        headers.remove(name);
    }
    join_cookies(headers);
}

/// HTTP/2 may split a cookie into several fields, of which HTTP/1.1 servers read the first.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let whole = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    match whole {
        Ok(whole) => drop(headers.insert(COOKIE, whole)),
        Err(_) => drop(headers.remove(COOKIE)),
    }
}

/// Removes the headers that make a server act on another request than the one that was checked: another method or path,
/// or another host in the addresses that it returns. Frameworks obey such fields by default, and the interfaces below
/// them (CGI, WSGI, Rack) read `_` in a name as `-`: no field of a registry has one.
pub fn without_overrides(headers: &mut HeaderMap) {
    const FAMILIES: [&str; 14] = [
        "forwarded",
        "x-envoy-",
        "x-forwarded",
        "x-host",
        "x-http-",
        "x-method",
        "x-original",
        "x-override",
        "x-path",
        "x-real-",
        "x-request-uri",
        "x-request-url",
        "x-rewrite",
        "x-url",
    ];
    let is_override = |name: &str| name.contains('_') || FAMILIES.iter().any(|family| name.starts_with(family));
    let found: Vec<HeaderName> = headers.keys().filter(|name| is_override(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Adds this proxy to the `Via` of an answer (RFC 9110, 7.6.3). `version` is that of the message as it was received.
pub fn via(headers: &mut HeaderMap, version: Version) {
    let value = match version {
        Version::HTTP_10 => "1.0 pullthrough",
        Version::HTTP_2 => "2 pullthrough",
        _ => "1.1 pullthrough",
    };
    headers.append(VIA, HeaderValue::from_static(value));
}

/// The name of this proxy in the `Via` of requests. A request that contains it already has come back in a loop.
#[derive(Clone, Debug)]
pub struct Pseudonym(String);

impl Pseudonym {
    /// Makes a unique name. It is random, and reveals nothing about the machine.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("pullthrough-{:016x}", RandomState::new().build_hasher().finish()))
    }

    /// Adds it to a request. `version` is that of the message as it was received.
    pub fn mark(&self, headers: &mut HeaderMap, version: Version) {
        if let Ok(value) = HeaderValue::from_str(&self.entry(version)) {
            headers.append(VIA, value);
        }
    }

    /// The `Via` entries of a request, this proxy included, as one line.
    #[must_use]
    pub fn via_entries(&self, headers: &HeaderMap, version: Version) -> String {
        let mut hops: Vec<&str> = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok()).collect();
        let entry = self.entry(version);
        hops.push(&entry);
        hops.join(", ")
    }

    /// Whether a request has passed this proxy before.
    #[must_use]
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let named = |value: &HeaderValue| {
            let entries = value.to_str().unwrap_or_default().split(',');
            entries.filter_map(|entry| entry.split_ascii_whitespace().nth(1)).any(|name| name == self.0)
        };
        headers.get_all(VIA).iter().any(named)
    }

    fn entry(&self, version: Version) -> String {
        let spoken = match version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        };
        format!("{spoken} {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_back_is_known_by_its_via() {
        let (one, other) = (Pseudonym::random(), Pseudonym::random());
        let mut headers = HeaderMap::new();
        assert!(!one.is_in(&headers));
        headers.append(VIA, HeaderValue::from_static("1.0 fred, 1.1 pullthrough (a comment)"));
        assert!(!one.is_in(&headers));
        let way = one.via_entries(&headers, Version::HTTP_11);
        assert_eq!(way, format!("1.0 fred, 1.1 pullthrough (a comment), 1.1 {}", one.0));
        other.mark(&mut headers, Version::HTTP_2);
        headers.append(VIA, HeaderValue::from_str(&way).unwrap());
        assert!(one.is_in(&headers) && other.is_in(&headers));
        assert!(!Pseudonym::random().is_in(&headers));
    }

    #[test]
    fn no_field_asks_for_another_request_in_any_spelling() {
        let overrides = [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-method",
            "x-forwarded-path",
            "x-forwarded-uri",
            "x-original-url",
            "x-original-method",
            "x-envoy-original-path",
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-rewrite-url",
            "x_http_method_override",
            "x_original_url",
            "content_length",
            "transfer_encoding",
            "authorization_",
        ];
        let others = ["authorization", "x-request-id", "x-registry-auth", "private-token", "x-meta-source-client"];
        let mut headers = HeaderMap::new();
        for name in overrides.iter().chain(&others) {
            headers.append(*name, HeaderValue::from_static("1"));
        }
        without_overrides(&mut headers);
        assert_eq!(headers.keys_len(), others.len(), "{headers:?}");
        assert!(others.iter().all(|name| headers.contains_key(*name)), "{headers:?}");
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2", "c=3"] {
            headers.append(COOKIE, HeaderValue::from_static(crumb));
        }
        end_to_end(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn only_end_to_end_headers_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic c2VjcmV0"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
            ("authorization", "Bearer token"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        end_to_end(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept", "authorization"]);
    }
}
