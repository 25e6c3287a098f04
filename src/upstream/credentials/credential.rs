//! One credential: a user with a password, or an identity token that is exchanged for bearers.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::host::Secret;

/// The user name that stands for "the password is an identity token" (docker-credential-helpers).
const IDENTITY_USER: &str = "<token>";

/// A credential. Its `Debug` tells the user and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token of the token service (`identitytoken` in a docker configuration).
    Identity {
        /// The token.
        token: Secret,
    },
}

impl Credential {
    /// User and password, or an identity token where the user says so.
    #[must_use]
    pub fn new(user: String, password: Secret) -> Self {
        if user == IDENTITY_USER { Self::Identity { token: password } } else { Self::Password { user, password } }
    }

    /// The user, where there is one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Password { user, .. } => Some(user),
            Self::Identity { .. } => None,
        }
    }

    /// `Authorization: Basic`, marked as sensitive. `None` for an identity token, which is for a token service
    /// only.
    #[must_use]
    pub fn basic(&self) -> Option<HeaderValue> {
        match self {
            Self::Password { user, password } => {
                let plain = Zeroizing::new(format!("{user}:{}", password.expose()));
                let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(plain.as_bytes())));
                let mut value = HeaderValue::from_str(&text).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
            Self::Identity { .. } => None,
        }
    }

    /// Its parts, for a MAC: no two different credentials have the same.
    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        match self {
            Self::Password { user, password } => [b"password", user.as_bytes(), password.expose().as_bytes()],
            Self::Identity { token } => [b"identity", b"", token.expose().as_bytes()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_becomes_a_basic_header_that_no_log_prints() {
        let credential = Credential::new("Aladdin".into(), Secret::new("open sesame".into()));
        let value = credential.basic().unwrap();
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert!(!format!("{credential:?}").contains("sesame"));
    }

    #[test]
    fn an_identity_token_is_never_sent_as_a_password() {
        let credential = Credential::new("<token>".into(), Secret::new("t".into()));
        assert_eq!(credential, Credential::Identity { token: Secret::new("t".into()) });
        assert_eq!((credential.user(), credential.basic()), (None, None));
    }
}
