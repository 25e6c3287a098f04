//! Reads a value of a configuration that is written as text.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};

/// Deserializes a text and parses it: for `impl Deserialize` of what has [`FromStr`].
///
/// # Errors
/// That there is no text, or what the parser says of it.
pub fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
