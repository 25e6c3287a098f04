//! Configures where the CA lives and how long its leaves are valid.

use std::path::PathBuf;

use serde::Deserialize;

use crate::host::Period;

/// The `ca:` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of `ca.crt`, `ca.key`, `issuing.crt` and `issuing.key`. Default: `ca`.
    pub dir: PathBuf,
    /// How long a minted leaf is valid. Default: 7 days.
    pub leaf_lifetime: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: "ca".into(), leaf_lifetime: Period::seconds(7 * 86_400) }
    }
}
