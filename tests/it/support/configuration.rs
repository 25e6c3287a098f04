//! A proxy's configuration: sections of entries, printed as YAML in flow style.

use std::fmt;

#[derive(Clone, Default)]
pub(crate) struct Configuration {
    sections: Vec<(&'static str, Vec<String>)>,
}

impl Configuration {
    /// Adds entries to a section, in flow style: `streams: 5, streams_each: 3`.
    pub(crate) fn add(&mut self, section: &'static str, entries: impl Into<String>) {
        let entries = entries.into();
        match self.sections.iter_mut().find(|(name, _)| *name == section) {
            _ if entries.is_empty() => {}
            Some((_, there)) => there.push(entries),
            None => self.sections.push((section, vec![entries])),
        }
    }

    /// Whether a section has this key.
    pub(crate) fn has(&self, section: &str, key: &str) -> bool {
        let is_key = |entry: &str| entry.trim().strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
        let entries = self.sections.iter().filter(|(name, _)| *name == section).flat_map(|(_, entries)| entries);
        entries.flat_map(|entry| entry.split(',')).any(is_key)
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sections.iter().try_for_each(|(name, entries)| writeln!(f, "{name}: {{{}}}", entries.join(", ")))
    }
}

#[test]
fn a_configuration_prints_each_section_once_and_no_empty_one() {
    let mut configuration = Configuration::default();
    for (section, entries) in
        [("cache", "dir: a"), ("log", ""), ("ca", "dir: b"), ("cache", "max_size: 1MiB, min_free: 0%")]
    {
        configuration.add(section, entries);
    }
    assert_eq!(configuration.to_string(), "cache: {dir: a, max_size: 1MiB, min_free: 0%}\nca: {dir: b}\n");
    assert!(configuration.has("cache", "min_free") && !configuration.has("cache", "min"));
}
