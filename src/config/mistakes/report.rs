//! Collects mistakes, each with the place that its key came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cuts::Cuts;
use super::locate;
use super::mistake::{Mistake, Mistakes, ValueSource};
use crate::config::tree::KeyPath;

/// The most mistakes that are reported: nobody reads more, and each costs another walk through the file.
pub(crate) const LIMIT: usize = 100;

/// Collects mistakes and notices.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    file: Option<PathBuf>,
    text: &'a str,
    overridden: BTreeMap<KeyPath, ValueSource>,
    cuts: Cuts,
    mistakes: Vec<Mistake>,
    notices: Vec<Mistake>,
}

impl<'a> Report<'a> {
    /// A report for the text of a file, or for the defaults.
    pub(crate) fn new(file: Option<PathBuf>, text: &'a str) -> Self {
        Self {
            file,
            text,
            overridden: BTreeMap::new(),
            cuts: Cuts::default(),
            mistakes: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Records that the key at `path` now comes from `place`.
    pub(crate) fn override_place(&mut self, path: KeyPath, place: ValueSource) {
        self.overridden.insert(path, place);
    }

    /// Whether a variable or a flag has set the key.
    pub(crate) fn is_overridden(&self, path: &KeyPath) -> bool {
        self.overridden.contains_key(path)
    }

    /// Whether there is no mistake yet at `path` or below it, so that nothing was cut out there.
    pub(crate) fn is_clean(&self, path: &KeyPath) -> bool {
        let key = self.cuts.original(path).to_string();
        let below =
            |said: &str| said.strip_prefix(&key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        !self.mistakes.iter().any(|mistake| below(&mistake.key))
    }

    pub(crate) fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// Records that the node at `path` is cut out of the tree.
    pub(crate) fn note_cut(&mut self, path: &KeyPath) {
        self.cuts.note(path);
    }

    /// Reports a mistake at `path`, a path in the current tree.
    pub(crate) fn say(&mut self, path: &KeyPath, text: impl Into<String>) {
        self.say_nth(path, 0, text);
    }

    /// Reports a conflict between values: at the first one that is set at all, with the text for it.
    pub(crate) fn say_of_one<const N: usize>(&mut self, paths: [(KeyPath, String); N]) {
        let is_said = |path: &KeyPath| self.is_overridden(path) || locate::is_there(self.text, path);
        let said = paths.iter().find(|(path, _)| is_said(path)).or(paths.first());
        if let Some((path, text)) = said {
            self.say(path, text);
        }
    }

    /// Reports a mistake at the `nth` occurrence of the key, from 0.
    pub(crate) fn say_nth(&mut self, path: &KeyPath, nth: usize, text: impl Into<String>) {
        if self.count() >= LIMIT {
            return;
        }
        let original = self.cuts.original(path);
        let place = self.place(&original, nth);
        self.mistakes.push(Mistake { place, key: original.to_string(), text: text.into() });
    }

    /// Adds a notice about a valid value at `path`.
    pub(crate) fn notice(&mut self, path: &KeyPath, text: impl Into<String>) {
        let original = self.cuts.original(path);
        let place = self.place(&original, 0);
        self.notices.push(Mistake { place, key: original.to_string(), text: text.into() });
    }

    /// The notices, one line each.
    pub(crate) fn notices(&self) -> impl Iterator<Item = String> {
        self.notices.iter().map(ToString::to_string)
    }

    /// Reports a mistake that has no key.
    pub(crate) fn say_of(&mut self, place: ValueSource, text: impl Into<String>) {
        self.mistakes.push(Mistake { place, key: String::new(), text: text.into() });
    }

    fn place(&self, path: &KeyPath, nth: usize) -> ValueSource {
        match (self.overridden.get(path), &self.file) {
            (Some(place), _) => place.clone(),
            (None, Some(file)) => ValueSource::File(file.clone(), locate::line(self.text, path, nth)),
            (None, None) => ValueSource::Defaults,
        }
    }

    pub(crate) fn finish(self) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes::new(self.mistakes)) }
    }
}
