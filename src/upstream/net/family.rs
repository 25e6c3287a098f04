//! The address families that may be dialled.

use serde::Deserialize;

/// Which addresses of a name are dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 and IPv6, raced.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}
