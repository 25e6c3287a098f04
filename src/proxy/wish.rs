//! What a client asks of a token service: for which scopes, and with whose credentials.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{AUTHORIZATION, HeaderMap};
use zeroize::Zeroizing;

/// A request for a token, by GET or by POST (distribution-spec, "Token Authentication"; RFC 6749, 4.3.2 and 6).
pub(super) struct Wish {
    scopes: Vec<String>,
    grant: Option<Zeroizing<String>>,
    credential: Option<Zeroizing<Vec<u8>>>,
}

impl Wish {
    /// Reads a request's headers, query and form.
    pub(super) fn read(headers: &HeaderMap, query: &str, form: &[u8]) -> Self {
        let form = Zeroizing::new(String::from_utf8_lossy(form).into_owned());
        let pairs = || query.split('&').chain(form.split('&')).filter_map(|pair| pair.split_once('='));
        let value = |name: &str| pairs().find(|(key, _)| *key == name).map(|(_, value)| decoded(value));
        let scopes = pairs().filter(|(name, _)| *name == "scope");
        let scopes = scopes
            .flat_map(|(_, value)| decoded(value).split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let of_header = headers.get(AUTHORIZATION).map(|value| Zeroizing::new(value.as_bytes().to_vec()));
        let credential = of_header.or_else(|| {
            if let Some(token) = value("refresh_token") {
                return Some(Zeroizing::new(format!("Identity {}", *token).into_bytes()));
            }
            let (user, password) = (value("username")?, value("password")?);
            let pair = Zeroizing::new(format!("{}:{}", *user, *password));
            Some(Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())).into_bytes()))
        });
        Self { scopes: scopes.collect(), grant: value("grant_type"), credential }
    }

    /// Whose it is: the credentials as an `Authorization` header would have them, from wherever they came.
    pub(super) fn credential(&self) -> Option<&[u8]> {
        self.credential.as_ref().map(|bytes| bytes.as_slice())
    }

    /// The user whose password it brings, if it brings one.
    pub(super) fn user(&self) -> Option<String> {
        user_of(self.credential()?)
    }

    /// What it is asked for, one by one.
    pub(super) fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Whether a form says by which of the two known ways it proves who asks, and does.
    pub(super) fn is_a_grant(&self) -> bool {
        let is_identity = self.credential().is_some_and(|credential| credential.starts_with(b"Identity "));
        match self.grant.as_ref().map(|grant| grant.as_str()) {
            Some("password") => self.credential.is_some() && !is_identity,
            Some("refresh_token") => is_identity,
            _ => false,
        }
    }

    /// Whether a token that lets nobody do more than read what is cached can answer it. Without a scope,
    /// credentials are there to be verified: that is a login.
    pub(super) fn is_to_pull(&self) -> bool {
        let pulls = |scope: &String| scope.rsplit_once(':').is_some_and(|(_, actions)| actions == "pull");
        self.scopes.iter().all(pulls) && (self.credential.is_none() || !self.scopes.is_empty())
    }
}

/// The user of `Basic`; nobody's name where it has none that can be read.
pub(super) fn user_of(credential: &[u8]) -> Option<String> {
    let (scheme, encoded) = std::str::from_utf8(credential).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim()).unwrap_or_default());
    let user = bytes.split(|byte| *byte == b':').next().unwrap_or_default();
    Some(String::from_utf8_lossy(user).into_owned())
}

/// A value of a query or a form (URL Standard, application/x-www-form-urlencoded). What is no escape stands for
/// itself.
fn decoded(text: &str) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = || u8::from_str_radix(std::str::from_utf8(tail.get(..2)?).ok()?, 16).ok();
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => match escaped() {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &tail[2..];
                }
                None => bytes.push(b'%'),
            },
            byte => bytes.push(*byte),
        }
    }
    Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_pulls_are_answered_and_no_login_is() {
        let table = [
            ("scope=repository:library/alpine:pull&service=x", false, true),
            ("scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull", true, true),
            ("scope=repository:a:pull+repository:b:pull", true, true),
            ("scope=repository:a:pull,push", true, false),
            ("scope=repository:a:pull&scope=repository:b:push", true, false),
            ("scope=registry:catalog:*", true, false),
            ("service=x", false, true),
            ("service=x&account=me&offline_token=true", true, false),
        ];
        for (query, has_credential, expected) in table {
            let mut headers = HeaderMap::new();
            if has_credential {
                headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic dTpw"));
            }
            assert_eq!(Wish::read(&headers, query, b"").is_to_pull(), expected, "{query}");
        }
    }

    #[test]
    fn a_form_and_a_header_with_the_same_password_are_one_credential() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic dTpwICY9")); // u:p &=
        let by_get = Wish::read(&headers, "scope=repository:a:pull", b"");
        let form = b"grant_type=password&username=u&password=p+%26%3D&scope=repository%3Aa%3Apull";
        let by_post = Wish::read(&HeaderMap::new(), "", form);
        assert_eq!(by_get.credential(), by_post.credential());
        assert!(by_post.is_to_pull());
        let identity =
            Wish::read(&HeaderMap::new(), "", b"grant_type=refresh_token&refresh_token=r&scope=repository:a:pull");
        assert_eq!(identity.credential(), Some(b"Identity r".as_slice()));
        assert_eq!(Wish::read(&HeaderMap::new(), "scope=x", b"").credential(), None);
    }

    #[test]
    fn a_broken_escape_stands_for_itself() {
        for (text, expected) in [("a%2Fb+c", "a/b c"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%C3%A9", "é")] {
            assert_eq!(*decoded(text), expected, "{text}");
        }
    }
}
