//! Configures how the log is written.

use serde::Deserialize;

/// The `log:` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Text for people or JSON for collectors. Default: text.
    pub format: Format,
    /// Whether to log each request and CONNECT. Default: true.
    pub access: bool,
}

/// The format of a log line. Both have UTC times (RFC 3339).
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
