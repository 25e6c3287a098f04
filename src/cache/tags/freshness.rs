//! Says how long a tag's answer is believed: a registry's `tags:` section, ready for use.

use std::time::Duration;

use regex_lite::Regex;

use crate::cache::config::{MISSING_FOR, TagsConfig};
use crate::oci::Tag;

/// A registry's policy.
#[derive(Clone, Debug)]
pub struct TagPolicy {
    fresh_for: Duration,
    deadline: Duration,
    rules: Vec<(Regex, Duration)>,
}

/// What the policy says of one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// An answer younger than this is served without asking.
    pub fresh_for: Duration,
    /// How long asking may take before the last known answer is served.
    pub deadline: Duration,
}

/// The pattern of a rule is not a regular expression.
#[derive(Debug, thiserror::Error)]
#[error("the rule {pattern:?} is not a regular expression")]
pub struct BadRule {
    pattern: String,
    #[source]
    source: regex_lite::Error,
}

impl TagPolicy {
    /// Compiles a section; `fresh_for` is the registry's default.
    ///
    /// # Errors
    /// [`BadRule`] for the first pattern that does not compile.
    pub fn new(config: &TagsConfig, fresh_for: Duration) -> Result<Self, BadRule> {
        let compile = |rule: &crate::cache::TagRule| match Regex::new(&rule.pattern) {
            Ok(pattern) => Ok((pattern, rule.fresh_for.0)),
            Err(source) => Err(BadRule { pattern: rule.pattern.clone(), source }),
        };
        Ok(Self {
            fresh_for: config.fresh_for.map_or(fresh_for, |period| period.0),
            deadline: config.deadline.map_or(Duration::from_secs(10), |period| period.0),
            rules: config.rules.iter().map(compile).collect::<Result<_, _>>()?,
        })
    }

    /// What holds for `tag`: the first rule that matches, else the section's own value.
    #[must_use]
    pub fn of(&self, tag: &Tag) -> Freshness {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.is_match(tag.as_str()));
        Freshness { fresh_for: rule.map_or(self.fresh_for, |(_, fresh_for)| *fresh_for), deadline: self.deadline }
    }

    /// How long it is believed that something is not there.
    #[must_use]
    pub fn missing_for(&self) -> Duration {
        self.fresh_for.min(MISSING_FOR)
    }

    /// How long asking may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::TagRule;
    use crate::host::Period;

    #[test]
    fn the_first_rule_that_matches_wins() {
        let rule = |pattern: &str, seconds| TagRule { pattern: pattern.into(), fresh_for: Period::seconds(seconds) };
        let config =
            TagsConfig { rules: vec![rule(r"^v?\d+\.\d+\.\d+$", 100), rule("^v", 5)], ..TagsConfig::default() };
        let policy = TagPolicy::new(&config, Duration::from_secs(60)).unwrap();
        for (tag, seconds) in [("v1.2.3", 100), ("v1.2", 5), ("latest", 60)] {
            assert_eq!(policy.of(&tag.parse().unwrap()).fresh_for, Duration::from_secs(seconds), "{tag}");
        }
        assert!(
            TagPolicy::new(&TagsConfig { rules: vec![rule("(", 1)], ..TagsConfig::default() }, Duration::ZERO).is_err()
        );
    }
}
