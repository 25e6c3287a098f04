//! Parses a mirror's address, and admits only addresses that are safe in any file and script.

use std::fmt;
use std::str::FromStr;

/// `http://host:port` or `https://host:port`, with or without a path: where the mirror's `/v2/` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorUrl {
    is_tls: bool,
    authority: String,
    root: String,
    prefix: String,
}

/// Text that is not the address of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the address of the mirror without a user, such as https://mirror.example:5000")]
pub struct BadMirror;

impl MirrorUrl {
    /// Whether clients reach it over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Its host, with the port if it names one.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether its `/v2/` is not at the root of its host.
    #[must_use]
    pub fn has_path(&self) -> bool {
        !self.root.is_empty() || !self.prefix.is_empty()
    }

    /// What is before `/v2/`: empty, or with a leading slash.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The root of the API: ends in `/v2`, or in what follows it.
    #[must_use]
    pub fn api(&self) -> String {
        format!("{}/v2{}", self.base(), self.prefix)
    }

    /// Scheme and host, and what is before `/v2/`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("{}://{}{}", if self.is_tls { "https" } else { "http" }, self.authority, self.root)
    }

    /// Its host, without a port.
    #[must_use]
    pub(super) fn host(&self) -> &str {
        let end = self.authority.rfind(':').filter(|at| !self.authority[*at..].contains(']'));
        &self.authority[..end.unwrap_or(self.authority.len())]
    }

    /// The registry that its path names, if the path is one: what is under it is that registry's alone.
    #[must_use]
    pub(super) fn registry(&self) -> Option<&str> {
        self.prefix.strip_prefix('/').filter(|name| is_registry(name))
    }

    /// The address that is meant where a path without `/v2/` is a registry's host, as in the name of an image, or one of the
    /// mirror's own `names`. Any other such path is what a server in front of the mirror has before `/v2/`.
    #[must_use]
    pub(super) fn meant(&self, mut names: impl Iterator<Item = impl AsRef<str>>) -> Self {
        let first = self.root.split('/').nth(1).unwrap_or_default();
        let is_below = self.prefix.is_empty() && (is_registry(first) || names.any(|name| name.as_ref() == self.root));
        if !is_below {
            return self.clone();
        }
        Self { root: String::new(), prefix: self.root.clone(), ..self.clone() }
    }

    /// What a client that knows no scheme is told: the host, and what follows `/v2/`.
    #[must_use]
    pub fn location(&self) -> String {
        format!("{}{}", self.authority, self.prefix)
    }
}

/// Whether one component of a path looks like the host of a registry.
fn is_registry(component: &str) -> bool {
    component.contains('.') && !component.contains('/')
}

/// What its user wrote, up to a last slash.
impl fmt::Display for MirrorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix.is_empty() { f.write_str(&self.base()) } else { f.write_str(&self.api()) }
    }
}

/// Threat: this text goes into scripts that root runs. So it contains only characters that have no meaning in a shell, TOML or
/// YAML string, or here-document. A user and a password belong into the client's own login.
impl FromStr for MirrorUrl {
    type Err = BadMirror;

    fn from_str(text: &str) -> Result<Self, BadMirror> {
        let uri: http::Uri = text.parse().map_err(|_| BadMirror)?;
        let plain = |text: &str, also: &str| {
            let admitted = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || also.contains(c);
            text.chars().all(admitted)
        };
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(BadMirror),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(BadMirror)?.as_str();
        let path = uri.path().trim_end_matches('/');
        let is_clean = uri.query().is_none() && !text.contains('#') && !path.contains("//") && !path.contains("/.");
        if !is_clean || !plain(authority, ":[]") || !plain(path, "/") {
            return Err(BadMirror);
        }
        let (root, prefix) = match path.strip_suffix("/v2") {
            Some(root) => (root, ""),
            None => path.split_once("/v2/").map_or((path, ""), |(root, _)| (root, &path[root.len() + "/v2".len()..])),
        };
        let [authority, root, prefix] = [authority, root, prefix].map(str::to_owned);
        Ok(Self { is_tls, authority, root, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_or_without_the_place_of_its_v2() {
        let table = [
            ("http://m.example:5000", Some(("http://m.example:5000", "http://m.example:5000/v2", "m.example:5000"))),
            ("https://m.example/", Some(("https://m.example", "https://m.example/v2", "m.example"))),
            ("https://m.example/v2/", Some(("https://m.example", "https://m.example/v2", "m.example"))),
            ("https://[::1]:5000", Some(("https://[::1]:5000", "https://[::1]:5000/v2", "[::1]:5000"))),
            (
                "https://m.example/v2/hub",
                Some(("https://m.example/v2/hub", "https://m.example/v2/hub", "m.example/hub")),
            ),
            ("https://m.example/a/b", Some(("https://m.example/a/b", "https://m.example/a/b/v2", "m.example"))),
            ("https://user:p@m.example", None),
            ("m.example:5000", None),
            ("ftp://m.example", None),
            ("https://m.example?x", None),
            ("https://m.example/#x", None),
            ("https://m.example/$(id)", None),
            ("https://m.example/a\"b", None),
            ("https://m.example/../x", None),
            ("https://m'.example", None),
            ("", None),
        ];
        for (text, expected) in table {
            let url = text.parse::<MirrorUrl>().ok().map(|url| (url.to_string(), url.api(), url.location()));
            let told = url.as_ref().map(|(text, api, location)| (text.as_str(), api.as_str(), location.as_str()));
            assert_eq!(told, expected, "{text:?}");
        }
    }

    #[test]
    fn a_registry_in_the_path_follows_v2_however_it_is_written() {
        let table = [
            ("http://m:5000/quay.io", "http://m:5000/v2/quay.io", Some("quay.io")),
            ("http://m:5000/quay.io/v2", "http://m:5000/v2/quay.io", Some("quay.io")),
            ("http://m:5000/v2/quay.io/", "http://m:5000/v2/quay.io", Some("quay.io")),
            ("http://m:5000/hub", "http://m:5000/v2/hub", None),
            ("http://m:5000/cache", "http://m:5000/cache/v2", None),
            ("http://m:5000/cache/v2/quay.io", "http://m:5000/cache/v2/quay.io", Some("quay.io")),
            ("http://m.example", "http://m.example/v2", None),
        ];
        for (text, api, registry) in table {
            let url = text.parse::<MirrorUrl>().unwrap().meant(["/hub"].iter());
            assert_eq!((url.api().as_str(), url.registry()), (api, registry), "{text}");
        }
        for (text, host) in
            [("http://[::1]:5", "[::1]"), ("http://[::1]", "[::1]"), ("http://m:5", "m"), ("http://m", "m")]
        {
            assert_eq!(text.parse::<MirrorUrl>().unwrap().host(), host);
        }
    }
}
