//! How long a tag's answer is believed.

use serde::Deserialize;

use crate::host::Period;

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
    /// As in the section.
    pub fresh_for: Period,
}
