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

    /// What a client that knows no scheme is told: the host, and what follows `/v2/`.
    #[must_use]
    pub fn location(&self) -> String {
        format!("{}{}", self.authority, self.prefix)
    }
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
}
