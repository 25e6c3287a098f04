//! What an `Authorization` header says, or another place that brings the same: read once and carried as a value.
//!
//! `Basic` is a user and a password (RFC 7617, 2), `Bearer` a token (RFC 6750, 2.1). A refresh token of a token
//! service, which comes in a form, is an `Identity` here. Never: a secret in `Debug`; a secret left in memory when
//! this is dropped.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use zeroize::Zeroizing;

/// The credentials of one request.
#[derive(Clone)]
pub struct Authorization(Scheme);

type Bytes = Zeroizing<Vec<u8>>;

#[derive(Clone)]
enum Scheme {
    /// User and password, with the colon between them.
    Basic(Bytes),
    /// The same in an encoding that cannot be read: the whole field.
    Unreadable(Bytes),
    /// The whole field.
    Bearer(Bytes),
    Identity(Bytes),
    Other(Bytes),
}

impl Authorization {
    /// Reads a field's value, whatever it holds.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let whole = || Zeroizing::new(value.to_vec());
        let parts = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' '));
        Self(match parts {
            _ if value.starts_with(b"Identity ") => Scheme::Identity(whole()),
            Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => {
                match BASE64_STANDARD.decode(encoded.trim()) {
                    Ok(pair) => Scheme::Basic(Zeroizing::new(pair)),
                    Err(_) => Scheme::Unreadable(whole()),
                }
            }
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && is_visible(token) => {
                Scheme::Bearer(whole())
            }
            _ => Scheme::Other(whole()),
        })
    }

    /// User and password from elsewhere.
    #[must_use]
    pub fn of_password(user: &str, password: &str) -> Self {
        Self(Scheme::Basic(Zeroizing::new([user, ":", password].concat().into_bytes())))
    }

    /// A refresh token.
    #[must_use]
    pub fn of_identity(token: &str) -> Self {
        Self(Scheme::Identity(Zeroizing::new(["Identity ", token].concat().into_bytes())))
    }

    /// User and password of `Basic`, as bytes with a colon between them.
    #[must_use]
    pub fn pair(&self) -> Option<&[u8]> {
        if let Scheme::Basic(pair) = &self.0 { Some(pair) } else { None }
    }

    /// User and password of `Basic`, where they are text.
    #[must_use]
    pub fn login(&self) -> Option<(&str, &str)> {
        std::str::from_utf8(self.pair()?).ok()?.split_once(':')
    }

    /// The user of `Basic`; nobody's name where there is none that can be read.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        match &self.0 {
            Scheme::Basic(pair) => {
                let user = pair.split(|byte| *byte == b':').next().unwrap_or_default();
                Some(String::from_utf8_lossy(user).into_owned())
            }
            Scheme::Unreadable(_) => Some(String::new()),
            Scheme::Bearer(_) | Scheme::Identity(_) | Scheme::Other(_) => None,
        }
    }

    /// The token of `Bearer`.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let Scheme::Bearer(value) = &self.0 else { return None };
        std::str::from_utf8(value).ok()?.split_once(' ').map(|(_, token)| token.trim())
    }

    /// Whether it is a refresh token.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        matches!(self.0, Scheme::Identity(_))
    }

    /// The refresh token, where it is text.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        let Scheme::Identity(value) = &self.0 else { return None };
        std::str::from_utf8(value).ok()?.strip_prefix("Identity ")
    }

    /// Whose it is, in bytes that no other credentials have: a kind, and what is of that kind.
    #[must_use]
    pub fn identifying(&self) -> [&[u8]; 2] {
        match &self.0 {
            Scheme::Basic(pair) => [b"password", pair],
            Scheme::Unreadable(value) | Scheme::Bearer(value) | Scheme::Identity(value) | Scheme::Other(value) => {
                [b"other", value]
            }
        }
    }
}

/// Only what a header's value is written in, without other letters.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// Names the scheme alone.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Scheme::Basic(_) | Scheme::Unreadable(_) => "Basic",
            Scheme::Bearer(_) => "Bearer",
            Scheme::Identity(_) => "Identity",
            Scheme::Other(_) => "Other",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(pair: &[u8]) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    #[test]
    fn user_and_password_are_what_basic_says() {
        let table: [(&str, Option<&[u8]>, Option<(&str, &str)>, Option<&str>); 12] = [
            ("Basic dTpw", Some(b"u:p"), Some(("u", "p")), Some("u")),
            ("bASIC dTpw", Some(b"u:p"), Some(("u", "p")), Some("u")),
            ("Basic  dTpw ", Some(b"u:p"), Some(("u", "p")), Some("u")),
            ("Basic dTo=", Some(b"u:"), Some(("u", "")), Some("u")),
            ("Basic dTpwOnE=", Some(b"u:p:q"), Some(("u", "p:q")), Some("u")),
            ("Basic dQ==", Some(b"u"), None, Some("u")),
            ("Basic dTr/", Some(b"u:\xff"), None, Some("u")),
            ("Basic ???", None, None, Some("")),
            ("Basic ", Some(b""), None, Some("")),
            ("Basic", None, None, None),
            ("Bearer dTpw", None, None, None),
            ("", None, None, None),
        ];
        for (value, pair, login, user) in table {
            let read = Authorization::parse(value.as_bytes());
            assert_eq!((read.pair(), read.login(), read.user().as_deref()), (pair, login, user), "{value}");
        }
    }

    #[test]
    fn a_token_is_what_bearer_says() {
        let table = [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("BEARER a b", Some("a b")),
            ("Bearer", None),
            ("Bearer \u{e9}", None),
            ("Basic dTpw", None),
            ("Token abc", None),
        ];
        for (value, token) in table {
            assert_eq!(Authorization::parse(value.as_bytes()).bearer(), token, "{value}");
        }
        assert_eq!(Authorization::parse(b"Bearer \xff").bearer(), None);
    }

    #[test]
    fn the_same_credentials_are_the_same_wherever_they_come_from() {
        let by_header = Authorization::parse(encoded(b"u:p").as_bytes());
        assert_eq!(by_header.identifying(), Authorization::of_password("u", "p").identifying());
        let identity = Authorization::of_identity("r");
        assert_eq!(identity.identifying(), Authorization::parse(b"Identity r").identifying());
        assert_eq!((identity.identity(), identity.user()), (Some("r"), None));
        assert_ne!(by_header.identifying(), Authorization::parse(b"Basic u:p").identifying());
    }

    #[test]
    fn nothing_secret_is_shown() {
        for value in ["Basic dTpw", "Basic canary!", "Bearer canary", "Identity canary", "canary"] {
            let shown = format!("{:?}", Authorization::parse(value.as_bytes()));
            assert!(["Basic", "Bearer", "Identity", "Other"].contains(&shown.as_str()), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_pair_is_read_back(pair in prop::collection::vec(any::<u8>(), 0..40)) {
            let value = encoded(&pair);
            let read = Authorization::parse(value.as_bytes());
            prop_assert_eq!(read.pair(), Some(&pair[..]));
        }

        #[test]
        fn no_value_panics_the_parser(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let read = Authorization::parse(&value);
            let _ = (read.pair(), read.login(), read.user(), read.bearer(), read.identity());
        }
    }
}
