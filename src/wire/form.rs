//! Checks the form of a request where the HTTP library does not.
//!
//! Threat: servers read a malformed request in different ways. Defence: every door refuses it.

use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, TRANSFER_ENCODING,
};
use http::uri::{Authority, Scheme, Uri};
use http::{Method, Request, StatusCode, Version};

/// The most fields of a head, in every version of HTTP.
pub const FIELDS: usize = 128;
/// HTTP/2 servers close a connection, which requests of others share, when a field is too long for them.
const FIELD_BYTES: usize = 8 << 10;
/// Some token services issue large tokens.
const AUTHORIZATION_BYTES: usize = 16 << 10;

/// A fault in the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No `Host`, or several.
    #[error("the request must have one Host field")]
    Hosts,
    /// A `Host` that is not a host, or an `:authority` with a user.
    #[error("the request's Host is not a host")]
    Host,
    /// `Host` and `:authority` name different hosts.
    #[error("the request's Host and its authority differ")]
    Differing,
    /// A target that is neither a path nor a URL.
    #[error("the request's target is neither a path nor a URL")]
    Target,
    /// A transfer coding other than `chunked`.
    #[error("the only transfer coding understood is chunked, once")]
    Coding,
    /// `Connection` names a field that is for the server.
    #[error("Connection names a field that does not belong to the connection")]
    Connection,
    /// More fields than [`FIELDS`].
    #[error("the request has more than {FIELDS} fields")]
    Fields,
}

/// Whether a field is longer than servers accept. The fields of a split cookie are forwarded as one.
#[must_use]
pub fn has_long_field(headers: &HeaderMap) -> bool {
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 2;
    if headers.iter().map(length).sum::<usize>() <= FIELD_BYTES {
        return false; // nearly always
    }
    let is_long = |(name, value): (&HeaderName, &HeaderValue)| {
        let most = if *name == AUTHORIZATION { AUTHORIZATION_BYTES } else { FIELD_BYTES };
        name.as_str().len() + value.len() > most
    };
    let cookies: usize = headers.get_all(COOKIE).iter().map(|crumb| crumb.len() + 2).sum();
    cookies > FIELD_BYTES || headers.iter().any(is_long)
}

impl Malformed {
    /// The status to answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Coding => StatusCode::NOT_IMPLEMENTED, // RFC 9112, 6.1
            Self::Fields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a request's `Host` (RFC 9112, 3.2; RFC 9113, 8.3.1), target (RFC 9112, 3.2) and transfer codings (6.1), the
/// fields that its `Connection` names, and the number of its fields.
pub fn malformed<B>(request: &Request<B>) -> Option<Malformed> {
    let (uri, headers) = (request.uri(), request.headers());
    if headers.len() > FIELDS {
        return Some(Malformed::Fields); // the HTTP/1.1 parser has refused it before
    }
    if headers.get_all(CONNECTION).iter().any(names_end_to_end_field) {
        return Some(Malformed::Connection);
    }
    let is_h2 = request.version() == Version::HTTP_2;
    let mut hosts = headers.get_all(HOST).iter();
    let may_lack = request.version() == Version::HTTP_10 || is_h2 && uri.authority().is_some();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Some(Malformed::Hosts),
        (None, None) if !may_lack => return Some(Malformed::Hosts),
        (host, None) => host,
    };
    let host = match host.map(|value| value.to_str()) {
        None => None,
        Some(Ok(host)) if host.is_empty() || is_host(host) => Some(host),
        Some(_) => return Some(Malformed::Host),
    };
    if let Some(authority) = uri.authority().filter(|_| is_h2) {
        if !is_host(authority.as_str()) {
            return Some(Malformed::Host);
        }
        if host.is_some_and(|host| !bare(host, uri).eq_ignore_ascii_case(bare(authority.as_str(), uri))) {
            return Some(Malformed::Differing);
        }
    }
    // Without a scheme it was read as an authority, which is a target for CONNECT alone.
    if uri.authority().is_some() && uri.scheme().is_none() && *request.method() != Method::CONNECT {
        return Some(Malformed::Target);
    }
    (!is_chunked_or_plain(headers)).then_some(Malformed::Coding)
}

/// Threat: a field that is checked here is removed before the request is forwarded, so that the server sees another
/// request. `Connection` must not name a field for every recipient (RFC 9110, 7.6.1).
fn names_end_to_end_field(connection: &HeaderValue) -> bool {
    const ENDS: [&str; 17] = [
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "from",
        "host",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "referer",
        "transfer-encoding",
        "user-agent",
        "via",
        "warning",
    ];
    const FAMILIES: [&str; 3] = ["accept", "content-", "if-"];
    let options = connection.as_bytes().split(|byte| *byte == b',').map(|option| option.trim_ascii());
    let mut options = options.map(|option| String::from_utf8_lossy(option).to_ascii_lowercase());
    options.any(|option| ENDS.contains(&option.as_str()) || FAMILIES.iter().any(|family| option.starts_with(family)))
}

/// `uri-host [ ":" port ]`, without a user.
fn is_host(text: &str) -> bool {
    let port = |authority: &Authority| {
        let end = &authority.as_str()[authority.host().len()..];
        matches!(end, "" | ":") || authority.port_u16().is_some()
    };
    is_name_and_port(text) || (!text.contains('@') && text.parse::<Authority>().is_ok_and(|authority| port(&authority)))
}

/// The usual case, which needs no parser.
fn is_name_and_port(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, "443"));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    !name.is_empty() && name.bytes().all(is_plain) && is_port
}

/// Removes the default port of the scheme.
fn bare<'a>(host: &'a str, uri: &Uri) -> &'a str {
    let implied = if uri.scheme() == Some(&Scheme::HTTP) { ":80" } else { ":443" };
    host.strip_suffix(implied).unwrap_or(host)
}

/// The HTTP library decodes `chunked` if it is the last coding, and leaves the codings below it.
fn is_chunked_or_plain(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut codings = codings.by_ref().map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Decrements `Max-Forwards` of a request to be forwarded. Returns whether this is its end (RFC 9110, 7.6.2).
pub fn ends_here<B>(request: &mut Request<B>) -> bool {
    if !matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        return false;
    }
    let headers = request.headers_mut();
    let left = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match left {
        None => false,
        Some(0) => true,
        Some(left) => {
            headers.insert(MAX_FORWARDS, (left - 1).into());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, version: Version, fields: &[(&str, &str)]) -> Option<Malformed> {
        let mut request = Request::builder().method(method).uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        malformed(&request.body(()).unwrap())
    }

    #[test]
    fn a_request_names_one_host_that_is_one() {
        let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        let table: [(Version, &str, &[&str], Option<Malformed>); 23] = [
            (v11, "/", &["quay.io"], None),
            (v11, "/", &["quay.io:443"], None),
            (v11, "/", &["[::1]:3128"], None),
            (v11, "/", &["my_proxy"], None),
            (v11, "/", &["quay.io:"], None),
            (v11, "/", &[""], None),
            (v11, "http://quay.io/", &["other.example"], None),
            (v11, "/", &[], Some(Malformed::Hosts)),
            (v11, "/", &["a", "a"], Some(Malformed::Hosts)),
            (v10, "/", &[], None),
            (v10, "/", &["a", "b"], Some(Malformed::Hosts)),
            (v11, "/", &["a b"], Some(Malformed::Host)),
            (v11, "/", &["quay.io/x"], Some(Malformed::Host)),
            (v11, "/", &["me@quay.io"], Some(Malformed::Host)),
            (v11, "/", &["quay.io, quay.io"], Some(Malformed::Host)),
            (v11, "/", &["quay.io:99999"], Some(Malformed::Host)),
            (v11, "/", &["[::1"], Some(Malformed::Host)),
            (v2, "https://quay.io/", &[], None),
            (v2, "https://quay.io/", &["QUAY.io:443"], None),
            (v2, "https://quay.io/", &["other.example"], Some(Malformed::Differing)),
            (v2, "https://me@quay.io/", &[], Some(Malformed::Host)),
            (v2, "/", &["quay.io"], None),
            (v2, "/", &[], Some(Malformed::Hosts)),
        ];
        for (version, target, hosts, expected) in table {
            let fields: Vec<(&str, &str)> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(check("GET", target, version, &fields), expected, "{version:?} {target} {hosts:?}");
        }
    }

    #[test]
    fn an_authority_is_a_target_for_connect_alone() {
        let at = |method, target| check(method, target, Version::HTTP_11, &[("host", "a")]);
        assert_eq!(at("CONNECT", "quay.io:443"), None);
        assert_eq!(at("OPTIONS", "*"), None);
        for target in ["quay.io:443", "healthz"] {
            assert_eq!(at("GET", target), Some(Malformed::Target), "{target}");
        }
    }

    #[test]
    fn no_coding_is_understood_but_chunked_once() {
        let table: [(&[&str], bool); 10] = [
            (&[], true),
            (&["chunked"], true),
            (&[" , CHUNKED ,"], true),
            (&["gzip, chunked"], false),
            (&["gzip", "chunked"], false),
            (&["chunked, chunked"], false),
            (&["chunked", "chunked"], false),
            (&["identity, chunked"], false),
            (&["chunked;q=1"], false),
            (&["gzip"], false),
        ];
        for (codings, expected) in table {
            let fields: Vec<(&str, &str)> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            let fields = [&[("host", "a")], &fields[..]].concat();
            let found = check("PUT", "/", Version::HTTP_11, &fields);
            assert_eq!(found, (!expected).then_some(Malformed::Coding), "{codings:?}");
        }
    }

    #[test]
    fn connection_names_nothing_that_is_for_the_server() {
        let at = |values: &[&str]| {
            let fields = [("host", "a")].into_iter().chain(values.iter().map(|value| ("connection", *value)));
            check("GET", "/", Version::HTTP_11, &fields.collect::<Vec<_>>())
        };
        for good in ["close", "keep-alive, Upgrade, HTTP2-Settings", "TE", "x-hop", "", ", ,", "Trailer"] {
            assert_eq!(at(&[good]), None, "{good}");
        }
        for bad in ["authorization", "close, AUTHORIZATION ,", "Host", "content-length", "accept", "If-None-Match"] {
            assert_eq!(at(&[bad]), Some(Malformed::Connection), "{bad}");
            assert_eq!(at(&["close", bad]), Some(Malformed::Connection), "{bad}");
        }
    }

    #[test]
    fn a_head_is_bounded_by_its_fields_and_each_of_them() {
        let fields = |count: usize| {
            let mut request = Request::builder().version(Version::HTTP_2).uri("https://a/");
            for _ in 0..count {
                request = request.header("x", "y");
            }
            malformed(&request.body(()).unwrap())
        };
        assert_eq!((fields(FIELDS), fields(FIELDS + 1)), (None, Some(Malformed::Fields)));
        let long = |name: &'static str, length: usize, times: usize| {
            let mut headers = HeaderMap::new();
            for _ in 0..times {
                headers.append(name, "v".repeat(length).parse().unwrap());
            }
            has_long_field(&headers)
        };
        assert!(!long("x", FIELD_BYTES - 1, 2) && long("x", FIELD_BYTES, 1));
        assert!(!long("authorization", FIELD_BYTES, 1) && long("authorization", AUTHORIZATION_BYTES, 1));
        assert!(!long("cookie", FIELD_BYTES / 4, 3) && long("cookie", FIELD_BYTES / 4, 4));
    }

    #[test]
    fn max_forwards_limits_how_far_a_request_goes() {
        let table = [
            (Method::OPTIONS, "0", true, "0"),
            (Method::TRACE, "0", true, "0"),
            (Method::TRACE, "7", false, "6"),
            (Method::OPTIONS, "many", false, "many"),
            (Method::GET, "0", false, "0"),
        ];
        for (method, said, ends, left) in table {
            let mut request = Request::builder().method(method).header(MAX_FORWARDS, said).body(()).unwrap();
            let found = ends_here(&mut request);
            assert_eq!((found, request.headers()[MAX_FORWARDS].to_str().unwrap()), (ends, left));
        }
    }
}
