//! Configures where the cache lives and how large it may grow.

use std::path::PathBuf;

use serde::Deserialize;

use crate::host::{Percent, Size};

/// The `cache:` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder: an OCI image layout. Default: `cache`.
    pub dir: PathBuf,
    /// The limit of blobs and fills together. Default: 100 GiB or half the file system, whichever
    /// is less.
    pub max_size: Option<Size>,
    /// The share of the file system that stays free. Default: 15%.
    pub min_free: Percent,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: "cache".into(), max_size: None, min_free: Percent(15) }
    }
}
