//! How the log is written.

use serde::Deserialize;

/// The `log:` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Text for people or JSON for collectors. Default: text.
    pub format: Format,
    /// Whether each request and CONNECT gets a line. Default: true.
    pub access: bool,
}

/// How a line of the log looks. Times are UTC, RFC 3339, in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `2026-11-20T10:00:00Z INFO message key=value`
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Text, access: true }
    }
}
