//! Checks user and password as a client sends them in `Proxy-Authorization`.

use http::HeaderValue;

use crate::host::Secret;
use crate::oci::Authorization;

/// The longest user and password together, in bytes; longer ones are meant for something else.
const LONGEST: usize = 1024;

/// A user and a password, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The user that it claims to be.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A header that is not `Basic` with user and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credentials for the proxy are not Basic with user and password")]
pub struct BadOffer;

impl Offer {
    /// Reads a header (RFC 7617, 2).
    ///
    /// # Errors
    /// [`BadOffer`].
    pub fn parse(header: &HeaderValue) -> Result<Self, BadOffer> {
        let authorization = Authorization::parse(header.as_bytes());
        let (user, password) = authorization.login().ok_or(BadOffer)?;
        // bcrypt repeats the password with a NUL between: one that holds NULs could equal another.
        let has_control = [user, password].iter().any(|text| text.chars().any(char::is_control));
        if user.is_empty() || has_control || user.len() + 1 + password.len() > LONGEST {
            return Err(BadOffer);
        }
        Ok(Self { user: user.to_owned(), password: Secret::new(password.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    use super::*;

    fn header(plain: &str) -> HeaderValue {
        format!("Basic {}", BASE64_STANDARD.encode(plain)).parse().unwrap()
    }

    #[test]
    fn basic_credentials_are_read() {
        for (plain, user, password) in [("u:p", "u", "p"), ("u:", "u", ""), ("ü:p:q", "ü", "p:q")] {
            let offer = Offer::parse(&header(plain)).unwrap();
            assert_eq!((offer.user.as_str(), offer.password.expose()), (user, password));
            assert!(!format!("{offer:?}").contains("p:q"));
        }
        assert!(Offer::parse(&"bASIC dTpw".parse().unwrap()).is_ok());
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "Basic", "Basic ", "Basic dTpw dTpw", "Basic ???", "Bearer dTpw", "Basic dQ=="] {
            assert_eq!(Offer::parse(&text.parse().unwrap()), Err(BadOffer), "{text}");
        }
        for plain in [":p", "u:a\0a", "u\n:p"] {
            assert_eq!(Offer::parse(&header(plain)), Err(BadOffer), "{plain:?}");
        }
        assert_eq!(Offer::parse(&header(&format!("u:{}", "p".repeat(LONGEST)))), Err(BadOffer));
        assert_eq!(Offer::parse(&HeaderValue::from_bytes(b"Basic \xff").unwrap()), Err(BadOffer));
    }
}
