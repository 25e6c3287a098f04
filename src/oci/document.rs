//! A JSON document of the protocol: a manifest, a token, an error.

use serde::de::DeserializeOwned;

/// Reads one, which is an object: the library would read a struct's fields from a list as well, in their order.
#[must_use]
pub fn document<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    is_object.then(|| serde_json::from_slice(bytes).ok())?
}
