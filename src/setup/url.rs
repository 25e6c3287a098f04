//! Parses the proxy's address, and admits only addresses that are safe in any file and script.

use std::fmt;
use std::str::FromStr;

/// `http://host:port` or `https://`, with or without `user:password@`, and nothing after it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    text: String,
    in_unit: String,
    shown: String,
    bare: String,
    secret: bool,
}

/// Text that is not the address of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the address of the proxy, such as http://proxy.example:3128")]
pub struct BadUrl;

impl ProxyUrl {
    /// The form for an environment variable.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form for a unit file, where systemd gives the percent sign a meaning.
    #[must_use]
    pub fn in_unit(&self) -> &str {
        &self.in_unit
    }

    /// The form for printing, with `user:password` in place of the real ones.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The form without a user: the address of the proxy's own pages, which require none.
    #[must_use]
    pub fn bare(&self) -> &str {
        &self.bare
    }

    /// The address that a script gets while it runs: the names of the script's variables.
    pub(super) fn of_script() -> Self {
        let [text, in_unit, shown, bare] = ["$proxy", "$in_unit", "$shown", "$bare"].map(str::to_owned);
        Self { text, in_unit, shown, bare, secret: false }
    }

    /// Whether it contains a user or a password.
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

/// Threat: this text goes into scripts that root runs. So it contains only characters that are valid in a URL's
/// authority and have no meaning in a shell, unit file, TOML string or here-document; other bytes of a password are
/// percent-encoded, as in any URL.
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
        let (user, host) = authority.as_str().rsplit_once('@').unzip();
        let (text, bare) =
            (format!("{scheme}://{authority}"), format!("{scheme}://{}", host.unwrap_or(authority.as_str())));
        let shown = host.map_or_else(|| text.clone(), |host| format!("{scheme}://user:password@{host}"));
        Ok(Self { in_unit: text.replace('%', "%%"), text, shown, bare, secret: user.is_some() })
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
        let url: ProxyUrl = "http://u:p%40@h:1".parse().unwrap();
        assert!(url.is_secret());
        assert_eq!(
            [url.in_unit(), url.shown(), url.bare()],
            ["http://u:p%%40@h:1", "http://user:password@h:1", "http://h:1"]
        );
    }
}
