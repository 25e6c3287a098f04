//! Merges lists into a JSON object of others, and takes them out again.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// Whether our entries are put in or taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Ours come first in each list.
    Set,
    /// Ours are removed, with the lists that are empty then.
    Undo,
}

/// Text that cannot be merged into, and why.
#[derive(Debug, thiserror::Error)]
pub enum Unmergeable {
    /// It is not a JSON object.
    #[error("it is not a JSON object")]
    Json(#[source] serde_json::Error),
    /// A key of ours has a value of another kind.
    #[error("{0} is not a list")]
    Kind(String),
}

/// An object whose keys keep their order, and stand there once.
struct Ordered(Vec<(String, Value)>);

/// Puts the lists of `ours` into `theirs`, or takes them out. Text without a word counts as an empty object.
///
/// # Errors
/// Text that is not an object, or a list that is none.
pub fn merge(theirs: &str, ours: &str, how: Merge) -> Result<String, Unmergeable> {
    let theirs = if theirs.trim().is_empty() { "{}" } else { theirs };
    let Ordered(mut all) = serde_json::from_str(theirs).map_err(Unmergeable::Json)?;
    let Ordered(ours) = serde_json::from_str(ours).map_err(Unmergeable::Json)?;
    for (key, values) in ours {
        let Value::Array(values) = values else { return Err(Unmergeable::Kind(key)) };
        let at = all.iter().position(|(name, _)| *name == key);
        let there = match at.map(|at| &all[at].1) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(there)) => there.iter().filter(|one| !values.contains(one)).cloned().collect(),
            Some(_) => return Err(Unmergeable::Kind(key)),
        };
        let merged = if how == Merge::Set { [values, there].concat() } else { there };
        match at {
            Some(at) if merged.is_empty() => drop(all.remove(at)),
            Some(at) => all[at].1 = Value::Array(merged),
            None if merged.is_empty() => {}
            None => all.push((key, Value::Array(merged))),
        }
    }
    serde_json::to_string_pretty(&Ordered(all)).map(|text| text + "\n").map_err(Unmergeable::Json)
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut all: Vec<(String, Value)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if all.iter().any(|(name, _)| *name == key) {
                        return Err(A::Error::custom(format!("duplicate key {key}")));
                    }
                    all.push((key, value));
                }
                Ok(Ordered(all))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The same by the programs that a machine has.
pub(super) const MERGING: &str = r#"
# merge_with OURS: prints the JSON of standard input with our entries in it, or without them.
merge_with() {
  if [ -n "${PULLTHROUGH_PROGRAM:-}" ]; then
    "$PULLTHROUGH_PROGRAM" setup "$client" --mirror "$bare" --merge "$mode"
  elif command -v jq >/dev/null 2>&1; then
    jq --argjson ours "$1" --arg mode "$mode" 'if type != "object" then error("it is not a JSON object") else
      reduce ($ours | to_entries[]) as $e (.; ((.[$e.key] // []) - $e.value) as $rest
        | (if $mode == "set" then $e.value + $rest else $rest end) as $all
        | if $all == [] then del(.[$e.key]) else .[$e.key] = $all end) end'
  else
    python3 -c '
import json, sys
ours, mode, there = json.loads(sys.argv[1]), sys.argv[2], json.load(sys.stdin)
if not isinstance(there, dict): sys.exit("it is not a JSON object")
for key, values in ours.items():
    had = there.get(key) or []
    if not isinstance(had, list): sys.exit(key + " is not a list")
    rest = [one for one in had if one not in values]
    rest = values + rest if mode == "set" else rest
    if rest: there[key] = rest
    else: there.pop(key, None)
print(json.dumps(there, indent=2))' "$1" "$mode"
  fi
}

# merge_json PATH: the lists of standard input are merged into the JSON object of the file, or are taken out.
merge_json() {
  ours=$(cat)
  if [ ! -e "$root$1" ] && [ "$mode" = undo ]; then return 0; fi
  if [ ! -s "$root$1" ] && [ "$mode" = set ]; then
    printf '%s\n' "$ours" >"$scratch/new"
  elif [ -n "${PULLTHROUGH_PROGRAM:-}" ] || command -v jq >/dev/null 2>&1 || command -v python3 >/dev/null 2>&1; then
    merge_with "$ours" <"$root$1" >"$scratch/new" ||
      fail "$1 cannot be changed: see the message above. Nothing was changed; mend the file, or do it by hand: $ours"
  else
    fail "$1 exists and neither jq nor python3 is installed. Nothing was changed; do it by hand: $ours"
  fi
  if [ "$mode" = undo ] && [ "$(tr -d ' \n' <"$scratch/new")" = '{}' ]; then
    rm -f "$root$1.before-pullthrough"
    drop "$1"
    return 0
  fi
  if [ -z "$root" ] && dockerd --help 2>/dev/null | grep -q -e '--validate'; then
    dockerd --validate --config-file "$scratch/new" >"$scratch/said" 2>&1 ||
      fail "Docker would refuse $1: $(tail -n 1 "$scratch/said"). Nothing was changed"
  fi
  replace "$1"
  if [ "$mode" = undo ]; then rm -f "$root$1.before-pullthrough"; fi
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"registry-mirrors": ["http://m:5000"], "insecure-registries": ["m:5000"]}"#;

    #[test]
    fn ours_comes_first_and_what_others_wrote_stays_in_its_order() {
        let theirs = r#"{"live-restore": true, "registry-mirrors": ["https://a"], "log-opts": {"max-size": "1m"}}"#;
        let merged = merge(theirs, OURS, Merge::Set).unwrap();
        let flat: String = merged.split_whitespace().collect();
        let expected = r#"{"live-restore":true,"registry-mirrors":["http://m:5000","https://a"],"log-opts":{"max-size":"1m"},"insecure-registries":["m:5000"]}"#;
        assert_eq!(flat, expected);
        assert_eq!(merge(&merged, OURS, Merge::Set).unwrap(), merged, "once is enough");
        let undone: String = merge(&merged, OURS, Merge::Undo).unwrap().split_whitespace().collect();
        assert_eq!(undone, theirs.split_whitespace().collect::<String>());
        assert_eq!(merge("", OURS, Merge::Undo).unwrap(), "{}\n");
    }

    #[test]
    fn what_cannot_be_merged_is_refused_with_the_reason() {
        for (theirs, expected) in [
            ("[]", "not a JSON object"),
            ("{\"a\": 1,}", "not a JSON object"),
            ("{\"a\": 1, \"a\": 2}", "not a JSON object"),
            ("{\"registry-mirrors\": \"x\"}", "registry-mirrors is not a list"),
        ] {
            let refused = merge(theirs, OURS, Merge::Set).unwrap_err().to_string();
            assert!(refused.contains(expected), "{theirs}: {refused}");
        }
    }
}
