//! Holds a secret: it is never printed, and is erased from memory when it is dropped.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// A password, a token or another secret. There is no `Display`, and `Debug` does not even show its length.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text. Pass it only to the code that needs it, never to a log or an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Compares in a time that reveals nothing about the text, except whether the lengths differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for Secret {}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

/// Reads a text, and refuses anything else without repeating it: the line of a mistake must not leak it.
struct Text;

const NO_TEXT: &str = "not text; expected the secret in quotes";

impl<'de> Visitor<'de> for Text {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_unit<E: Error>(self) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
        Err(A::Error::custom(NO_TEXT))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
        Err(A::Error::custom(NO_TEXT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_nothing() {
        let secret = Secret::new("canary".into());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret Some(Secret)");
        assert_eq!(secret.expose(), "canary");
    }

    #[test]
    fn secrets_are_equal_as_their_texts_are() {
        let secret = |text: &str| Secret::new(text.into());
        assert_eq!(secret("a"), secret("a"));
        assert_ne!(secret("a"), secret("b"));
        assert_ne!(secret("a"), secret("ab"));
    }

    #[test]
    fn what_is_no_text_is_refused_without_being_repeated() {
        for json in ["12345", "-12345", "123.45", "true", "null", "[\"12345\"]", "{\"12345\": 1}"] {
            let error = serde_json::from_str::<Secret>(json).unwrap_err().to_string();
            assert!(error.starts_with(NO_TEXT) && !error.contains("12345"), "{json}: {error}");
        }
        assert_eq!(serde_json::from_str::<Secret>("\"x\"").unwrap(), Secret::new("x".into()));
    }
}
