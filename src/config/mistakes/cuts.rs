//! Records which items were cut out of lists, so that the others keep their numbers from the file.

use std::collections::BTreeSet;

use crate::config::tree::{KeyPath, PathStep};

/// The items that were cut out: their list and their number, both as in the file.
#[derive(Debug, Default)]
pub(crate) struct Cuts(BTreeSet<(KeyPath, usize)>);

impl Cuts {
    /// The path in the file of the node that is now at `path`.
    pub(crate) fn original(&self, path: &KeyPath) -> KeyPath {
        let mut original = KeyPath::default();
        for step in &path.0 {
            original = match step {
                PathStep::Key(key) => original.key(key),
                PathStep::Index(index) => {
                    let mut left = (0..).filter(|number| !self.0.contains(&(original.clone(), *number)));
                    let number = left.nth(*index).unwrap_or(*index);
                    original.index(number)
                }
            };
        }
        original
    }

    /// Records that the node at `path` is cut out; the later items of its list move up.
    pub(crate) fn note(&mut self, path: &KeyPath) {
        if let Some((PathStep::Index(number), list)) = self.original(path).0.split_last() {
            self.0.insert((KeyPath(list.to_vec()), *number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_numbers_whatever_was_cut_before_them() {
        let list = KeyPath::of(["a"]);
        let mut cuts = Cuts::default();
        let items: Vec<KeyPath> = [1, 1, 0]
            .into_iter()
            .map(|now| {
                let original = cuts.original(&list.index(now));
                cuts.note(&list.index(now));
                original
            })
            .collect();
        assert_eq!(items, [list.index(1), list.index(2), list.index(0)]);
        assert_eq!(cuts.original(&list.index(0).key("b")), list.index(3).key("b"));
        assert_eq!(cuts.original(&KeyPath::of(["c"]).index(0)), KeyPath::of(["c"]).index(0));
    }
}
