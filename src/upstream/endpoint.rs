//! One endpoint of a registry: where it is, how it is reached, and how a request's path is written for it.

use std::fmt;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

use super::{EndpointConfig, HostConfig};
use crate::oci::{Authority, Repository};

/// Where a registry's content can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    secure: bool,
    authority: Authority,
    prefix: String, // without slashes at its ends
    reach: HostConfig,
    authoritative: bool,
}

/// A `url` that is no endpoint's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected https://host[:port][/path], without user, query or fragment")]
pub struct BadEndpoint;

impl Endpoint {
    /// Reads one entry of `endpoints`.
    ///
    /// # Errors
    /// [`BadEndpoint`] if the URL is none, or holds credentials or a query.
    pub fn parse(config: &EndpointConfig) -> Result<Self, BadEndpoint> {
        let (scheme, rest) = config.url.split_once("://").ok_or(BadEndpoint)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(BadEndpoint),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = Authority::parse(host, implied_port(secure)).map_err(|_| BadEndpoint)?;
        let reach = HostConfig {
            address: config.address,
            ca_file: config.ca_file.clone(),
            client_cert_file: config.client_cert_file.clone(),
            client_key_file: config.client_key_file.clone(),
        };
        Ok(Self { secure, authority, prefix: prefix(path)?, reach, authoritative: config.authoritative })
    }

    /// The host itself over https: the endpoint of a registry that lists none, or a token service.
    #[must_use]
    pub fn of_host(authority: &Authority) -> Self {
        Self {
            secure: true,
            authority: authority.clone(),
            prefix: String::new(),
            reach: HostConfig::default(),
            authoritative: true,
        }
    }

    /// The same endpoint, reached in another way.
    pub(crate) fn reached_by(self, reach: HostConfig) -> Self {
        Self { reach, ..self }
    }

    /// Its host and port.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether it may be asked what only the registry knows, and be sent the client's credentials.
    #[must_use]
    pub fn authoritative(&self) -> bool {
        self.authoritative
    }

    /// The same endpoint, authoritative or not.
    #[must_use]
    pub fn with_authoritative(self, authoritative: bool) -> Self {
        Self { authoritative, ..self }
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Its URL, for labels and logs: nothing in it is secret.
    #[must_use]
    pub fn name(&self) -> String {
        self.to_string()
    }

    /// The name that it has for `repository`: with the prefix, as a token's scope must say it.
    #[must_use]
    pub fn name_of(&self, repository: &Repository) -> String {
        if self.prefix.is_empty() { repository.to_string() } else { format!("{}/{repository}", self.prefix) }
    }

    /// What precedes the names of repositories, without slashes at its ends.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn reach(&self) -> &HostConfig {
        &self.reach
    }

    /// The absolute URI of a request's path and query, with the prefix put in: `/v2/a/blobs/...` becomes
    /// `/v2/PREFIX/a/blobs/...`, as BuildKit and Harbor have it. `/v2/` alone, and every other path, stays.
    pub(crate) fn uri(&self, target: &PathAndQuery) -> Option<Uri> {
        let target = match target.as_str().strip_prefix("/v2/") {
            Some(rest) if !self.prefix.is_empty() && !rest.is_empty() && !rest.starts_with('?') => {
                format!("/v2/{}/{rest}", self.prefix).parse().ok()?
            }
            _ => target.clone(),
        };
        absolute(self.secure, &self.authority, target)
    }
}

/// A URI of its parts; the port is left out where the scheme implies it.
pub(crate) fn absolute(secure: bool, authority: &Authority, target: PathAndQuery) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority.short(implied_port(secure)).parse().ok()?);
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).ok()
}

pub(crate) fn implied_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// `https://host/v2/project` is a spelling seen in hosts.toml for `https://host/project`.
fn prefix(path: &str) -> Result<String, BadEndpoint> {
    let path = path.trim_matches('/');
    let path = path.strip_prefix("v2/").or((path == "v2").then_some("")).unwrap_or(path);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'%');
    let segment = |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(plain);
    if path.is_empty() || path.split('/').all(segment) { Ok(path.to_owned()) } else { Err(BadEndpoint) }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority.short(implied_port(self.secure)))?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Endpoint, BadEndpoint> {
        Endpoint::parse(&EndpointConfig::of_url(url.to_owned()))
    }

    #[test]
    fn a_prefix_goes_into_v2() {
        let table = [
            ("https://quay.io", "/v2/a/manifests/b", "https://quay.io/v2/a/manifests/b"),
            ("HTTPS://Quay.io:443/", "/v2/", "https://quay.io/v2/"),
            ("https://h:5000/proj", "/v2/a/tags/list?n=1", "https://h:5000/v2/proj/a/tags/list?n=1"),
            ("https://h/a/b/", "/v2/c/tags/list", "https://h/v2/a/b/c/tags/list"),
            ("https://h/v2/proj", "/v2/c/tags/list", "https://h/v2/proj/c/tags/list"),
            ("https://h/v2/", "/v2/c/tags/list", "https://h/v2/c/tags/list"),
            ("https://h/proj", "/v2/", "https://h/v2/"),
            ("https://h/proj", "/v2/?a=b", "https://h/v2/?a=b"),
            ("https://h/proj", "/token?service=h", "https://h/token?service=h"),
            ("http://[::1]:5000", "/v2/", "http://[::1]:5000/v2/"),
            ("http://h:80", "/v2/", "http://h/v2/"),
        ];
        for (url, target, expected) in table {
            let uri = parse(url).unwrap().uri(&target.parse().unwrap());
            assert_eq!(uri.map(|uri| uri.to_string()).as_deref(), Some(expected), "{url} {target}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let urls = [
            "",
            "quay.io",
            "ftp://quay.io",
            "https://",
            "https://u:p@quay.io",
            "https://quay.io/a?b",
            "https://quay.io/a#b",
            "https://quay.io?x",
            "https://quay.io/a/../b",
            "https://quay.io/a//b",
            "https://quay.io/a b",
        ];
        for url in urls {
            assert_eq!(parse(url), Err(BadEndpoint), "{url}");
        }
    }
}
