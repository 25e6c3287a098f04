//! Finds the line of a key.
//!
//! The library reports a position only with an error; so the text is walked along the path again and fails on purpose
//! at its end.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::tree::{KeyPath, PathStep};

/// The line of the node at `path`, from 1; the `nth` one (from 0) if its last key is a duplicate. If the path goes
/// further than the text, the line of the last node that exists, except the root.
pub(crate) fn line(text: &str, path: &KeyPath, nth: usize) -> Option<usize> {
    let least = path.0.len().min(1);
    (least..=path.0.len()).rev().find_map(|length| {
        let nth = if length == path.0.len() { nth } else { 0 };
        let walk = Walk { rest: &path.0[..length], nth };
        let outcome = walk.deserialize(serde_yaml::Deserializer::from_str(text));
        outcome.err().filter(|error| error.to_string().contains(HERE)).and_then(|error| Some(error.location()?.line()))
    })
}

/// The line of the second document of a text that has several, or of the error in it; the library does not report it.
pub(crate) fn second_document(text: &str) -> Option<usize> {
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    let error = Walk { rest: &[], nth: 0 }.deserialize(second).err()?;
    Some(error.location()?.line())
}

/// Whether the text has a node at `path`.
pub(crate) fn is_there(text: &str, path: &KeyPath) -> bool {
    let walk = Walk { rest: &path.0, nth: 0 };
    let outcome = walk.deserialize(serde_yaml::Deserializer::from_str(text));
    outcome.is_err_and(|error| error.to_string().contains(HERE))
}

const HERE: &str = "the walk ends here";

struct Walk<'a> {
    rest: &'a [PathStep],
    nth: usize,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    /// Part of the error for a scalar if an item of a list is the end of the path.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.rest.is_empty() { HERE } else { "a longer path" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((PathStep::Key(wanted), rest)) = self.rest.split_first() else { return Err(self.end()) };
        let mut skip = if rest.is_empty() { self.nth } else { 0 };
        loop {
            let key = Key { wanted, stop: rest.is_empty() && skip == 0 };
            match entries.next_key_seed(key)? {
                None => return Ok(()),
                Some(true) if rest.is_empty() => skip = skip.saturating_sub(1),
                Some(true) => {
                    // If this key is a duplicate itself, the path may lead through the second one.
                    entries.next_value_seed(Walk { rest, nth: self.nth })?;
                    continue;
                }
                Some(false) => {}
            }
            entries.next_value::<IgnoredAny>()?;
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((PathStep::Index(wanted), rest)) = self.rest.split_first() else { return Err(self.end()) };
        for _ in 0..*wanted {
            items.next_element::<IgnoredAny>()?;
        }
        items.next_element_seed(Walk { rest, nth: self.nth })?;
        Ok(())
    }
}

impl Walk<'_> {
    fn end<E: Error>(&self) -> E {
        E::custom(if self.rest.is_empty() { HERE } else { "another kind of node" })
    }
}

/// Reads one key: whether it is the wanted one, and whether the path ends there.
struct Key<'a> {
    wanted: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.stop => Err(E::custom(HERE)),
            found => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
a:
  b: 1
  c:
    - x: 1
      y: 2
    -
      x: 3
    - plain
  b: 2
d: {e: [1,
  2], f: 3}
";

    #[test]
    fn every_key_and_item_has_its_line() {
        let a = KeyPath::of(["a"]);
        let table = [
            (a.clone(), 0, Some(2)),
            (a.key("b"), 0, Some(3)),
            (a.key("b"), 1, Some(10)),
            (a.key("c"), 0, Some(4)),
            (a.key("c").index(0), 0, Some(5)),
            (a.key("c").index(0).key("y"), 0, Some(6)),
            (a.key("c").index(1).key("x"), 0, Some(8)),
            (a.key("c").index(2), 0, Some(9)),
            (KeyPath::of(["d", "e"]).index(1), 0, Some(12)),
            (KeyPath::of(["d", "f"]), 0, Some(12)),
            (KeyPath::of(["d", "e"]).index(7), 0, Some(11)),
            (a.key("c").index(0).key("url"), 0, Some(5)),
            (KeyPath::of(["nowhere"]), 0, None),
            (KeyPath::default(), 0, Some(2)),
        ];
        for (path, nth, expected) in table {
            assert_eq!(line(TEXT, &path, nth), expected, "{path} {nth}");
        }
    }

    #[test]
    fn a_key_within_the_second_of_two_mappings_has_its_line() {
        let (text, path) = ("a: {b: 1}\na:\n  c: 2\n  c: 3\n", KeyPath::of(["a", "c"]));
        assert_eq!([0, 1, 2].map(|nth| line(text, &path, nth)), [Some(3), Some(4), Some(1)]);
    }
}
