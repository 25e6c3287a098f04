//! Parses the text of a configuration into a tree, and names the paths of its keys.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

/// One step down the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PathStep {
    Key(String),
    Index(usize),
}

/// The path from the root to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeyPath(pub(super) Vec<PathStep>);

impl KeyPath {
    pub(super) fn of<const N: usize>(keys: [&str; N]) -> Self {
        Self(keys.into_iter().map(|key| PathStep::Key(key.to_owned())).collect())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.then(PathStep::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.then(PathStep::Index(index))
    }

    fn then(&self, step: PathStep) -> Self {
        let mut longer = self.clone();
        longer.0.push(step);
        longer
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Key(key) if position == 0 => write!(f, "{}", key.escape_debug())?,
                PathStep::Key(key) => write!(f, ".{}", key.escape_debug())?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A parsed text and its duplicate keys; the first value counts.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Value,
    pub(super) duplicates: Vec<KeyPath>,
}

/// Parses YAML. An empty text is an empty mapping.
pub(super) fn parse(text: &str) -> Result<Tree, serde_yaml::Error> {
    let mut duplicates = Vec::new();
    let seed = Node { path: KeyPath::default(), duplicates: &mut duplicates };
    let mut root = seed.deserialize(serde_yaml::Deserializer::from_str(text))?;
    if root.is_null() {
        root = Value::Mapping(Mapping::new());
    }
    Ok(Tree { root, duplicates })
}

/// The node at `path`.
pub(super) fn find<'a>(root: &'a Value, path: &KeyPath) -> Option<&'a Value> {
    path.0.iter().try_fold(root, |node, step| match step {
        PathStep::Key(key) => node.as_mapping()?.get(key.as_str()),
        PathStep::Index(index) => node.as_sequence()?.get(*index),
    })
}

/// Cuts out the node at `path`; false if there is none, and for the root.
pub(super) fn cut(root: &mut Value, path: &KeyPath) -> bool {
    let Some((last, above)) = path.0.split_last() else { return false };
    let parent = above.iter().try_fold(root, |node, step| match step {
        PathStep::Key(key) => node.as_mapping_mut()?.get_mut(key.as_str()),
        PathStep::Index(index) => node.as_sequence_mut()?.get_mut(*index),
    });
    match (parent, last) {
        (Some(Value::Mapping(mapping)), PathStep::Key(key)) => mapping.remove(key.as_str()).is_some(),
        (Some(Value::Sequence(list)), PathStep::Index(index)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        _ => false,
    }
}

/// Sets the node at a path of keys, creating the mappings on the way.
pub(super) fn set(root: &mut Value, path: &[&str], value: Value) {
    let mut node = root;
    for key in path {
        if !node.is_mapping() {
            *node = Value::Mapping(Mapping::new());
        }
        let Value::Mapping(mapping) = node else { return };
        node = mapping.entry(Value::String((*key).to_owned())).or_insert(Value::Null);
    }
    *node = value;
}

/// Builds a node and records duplicate keys, which the library would either drop or fail on.
struct Node<'a> {
    path: KeyPath,
    duplicates: &'a mut Vec<KeyPath>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(value.to_string().into())
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(value.to_string().into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let seed = Node { path: self.path.index(list.len()), duplicates: self.duplicates };
            match items.next_element_seed(seed)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Sequence(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Mapping::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = self.path.key(&key);
            let value = entries.next_value_seed(Node { path: path.clone(), duplicates: self.duplicates })?;
            if mapping.contains_key(key.as_str()) {
                self.duplicates.push(path);
            } else {
                mapping.insert(Value::String(key), value);
            }
        }
        Ok(Value::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_is_an_empty_mapping() {
        for text in ["", "\n", "# only a comment\n", "---\n", "~"] {
            assert_eq!(parse(text).unwrap().root, Value::Mapping(Mapping::new()), "{text:?}");
        }
    }

    #[test]
    fn a_duplicate_key_is_recorded_and_the_first_counts() {
        let tree = parse("a: 1\nb: [{c: 1, c: 2}]\na: 2\n").unwrap();
        let noted: Vec<String> = tree.duplicates.iter().map(ToString::to_string).collect();
        assert_eq!(noted, ["b[0].c", "a"]);
        assert_eq!(find(&tree.root, &KeyPath::of(["a"])), Some(&Value::from(1)));
    }

    #[test]
    fn nodes_are_found_cut_and_set() {
        let mut root = parse("a: {b: [1, 2]}\n").unwrap().root;
        let first = KeyPath::of(["a", "b"]).index(0);
        assert!(cut(&mut root, &first));
        assert_eq!(find(&root, &first), Some(&Value::from(2)));
        assert!(!cut(&mut root, &KeyPath::of(["a", "x"])));
        assert!(!cut(&mut root, &KeyPath::default()));
        set(&mut root, &["a", "c"], "x".into());
        set(&mut root, &["d", "e"], "y".into());
        assert_eq!(find(&root, &KeyPath::of(["a", "c"])), Some(&Value::from("x")));
        assert_eq!(find(&root, &KeyPath::of(["d", "e"])), Some(&Value::from("y")));
    }
}
