//! The proxy's address as clients are told it: judged so that it can stand in any file and script.

use std::fmt;
use std::str::FromStr;

/// `http://host:port` or `https://`, with or without `user:password@`, and nothing behind.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    text: String,
    secret: bool,
}

/// Text that is no address of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the proxy's address, such as http://proxy.example:3128")]
pub struct BadUrl;

impl ProxyUrl {
    /// As it stands in an environment variable.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there is a password in it.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.secret
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl")
    }
}

/// Threat: this text goes into scripts that root runs. So it holds only what a URL's authority may hold and what
/// no shell, unit file, TOML string or here-document gives a meaning to; other bytes of a password are written
/// with a percent sign, as in any URL.
impl FromStr for ProxyUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let uri: http::Uri = text.parse().map_err(|_| BadUrl)?;
        let plain = |b: u8| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'.' | b'-' | b'_' | b'~' | b'%' | b':' | b'[' | b']' | b'@' | b'+')
        };
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or(BadUrl)?;
        let authority = uri.authority().ok_or(BadUrl)?;
        let bare = uri.path_and_query().is_none_or(|rest| rest == "/") && !text.contains('#');
        if !bare || !authority.as_str().bytes().all(plain) || authority.host().is_empty() {
            return Err(BadUrl);
        }
        let secret = authority.as_str().contains('@');
        Ok(Self { text: format!("{scheme}://{authority}"), secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_script_gives_a_meaning_to_is_an_address() {
        let table = [
            ("http://proxy.example:3128", Some("http://proxy.example:3128")),
            ("http://10.0.0.1:3128/", Some("http://10.0.0.1:3128")),
            ("https://[2001:db8::1]:3128", Some("https://[2001:db8::1]:3128")),
            ("http://ci:p%40ss@proxy:3128", Some("http://ci:p%40ss@proxy:3128")),
            ("proxy:3128", None),
            ("ftp://proxy:3128", None),
            ("http://proxy:3128/path", None),
            ("http://proxy:3128?x", None),
            ("http://proxy:3128/#x", None),
            ("http://a'b:3128", None),
            ("http://$(id):3128", None),
            ("http://a;b:3128", None),
            ("http://a b", None),
            ("http://a\nb", None),
            ("", None),
        ];
        for (text, expected) in table {
            let url = text.parse::<ProxyUrl>().ok();
            assert_eq!(url.as_ref().map(ProxyUrl::as_str), expected, "{text:?}");
        }
        assert!("http://u:p@h".parse::<ProxyUrl>().unwrap().is_secret());
    }
}
