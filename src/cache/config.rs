//! Configures how long a registry's answers are believed: what a tag is, and who may read.

use std::time::Duration;

use serde::Deserialize;

use crate::host::Period;

/// How long a 404 is remembered for anonymous callers at most. A registry whose tags are not believed for any time is
/// believed in this for no time either: what is pushed now is pulled at once.
pub(crate) const MISSING_FOR: Duration = Duration::from_secs(5);

/// The `tags:` section of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TagsConfig {
    /// How long a tag's answer is served without asking the registry again. Default: 60 s for the presets,
    /// 0 s for other registries.
    pub fresh_for: Option<Period>,
    /// How long a revalidation may take before the last known answer is served. Default: 10 s.
    pub deadline: Option<Period>,
    /// Rules by pattern; the first that matches a tag wins over `fresh_for`.
    pub rules: Vec<TagRule>,
}

/// Another `fresh_for` for the tags that match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagRule {
    /// A regular expression over the tag.
    #[serde(rename = "match")]
    pub pattern: String,
    /// How long an answer for such a tag is believed, as in the section.
    pub fresh_for: Period,
}

/// The `grants:` section of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantsConfig {
    /// How long a caller's right to read a repository, and that a repository is public, is believed before the
    /// registry is asked again: so long may a right outlive its withdrawal. Default: 10 min.
    pub life: Period,
    /// How long a caller's right is believed while the registry cannot be asked. Default: 24 h.
    pub outage: Period,
}

impl Default for GrantsConfig {
    fn default() -> Self {
        Self { life: Period::seconds(600), outage: Period::seconds(86_400) }
    }
}

impl GrantsConfig {
    /// The upper limit of both: no proof is remembered for longer.
    pub const LONGEST: Period = Period::seconds(7 * 86_400);

    /// The two as times.
    #[must_use]
    pub fn lives(self) -> Lives {
        Lives { life: self.life.0, outage: self.outage.0.max(self.life.0) }
    }
}

/// How long a yes of a registry is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// While it can be asked.
    pub life: Duration,
    /// While it cannot: a caller's right. That a repository is public holds for 7 days.
    pub outage: Duration,
}
