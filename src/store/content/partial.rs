//! Records which bytes of an unfinished fill have landed, and of what content.
//!
//! One line of JSON and, in a second line, its crc32c: a person can read it, and a flipped bit cannot pass as an
//! extent.

use crc_fast::crc32_iscsi;
use serde::{Deserialize, Serialize};

/// The state that a later fill needs to continue. Written beside the staged file, after its bytes were synced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Landed {
    /// The registry of the bytes. A fill from another registry never continues them.
    pub(crate) origin: String,
    /// The content's length in bytes, where it is known.
    pub(crate) total: Option<u64>,
    /// The entity tag of the bytes, for `If-Range`.
    pub(crate) validator: Option<String>,
    /// The start and end (exclusive) of each extent that has landed, in order and not touching.
    pub(crate) extents: Vec<(u64, u64)>,
}

impl Landed {
    /// Sorts the extents, joins those that touch, and drops empty ones.
    pub(crate) fn new(origin: &str, extents: &[(u64, u64)], total: Option<u64>, validator: Option<&str>) -> Self {
        let mut sorted: Vec<(u64, u64)> = extents.iter().copied().filter(|(from, to)| from < to).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(sorted.len());
        for (from, to) in sorted {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        Self { origin: origin.into(), total, validator: validator.map(Into::into), extents: joined }
    }

    /// The number of bytes that have landed.
    pub(crate) fn len(&self) -> u64 {
        self.extents.iter().map(|(from, to)| to - from).sum()
    }

    /// The end of the last extent. Nothing is known of bytes after it.
    pub(crate) fn end(&self) -> u64 {
        self.extents.last().map_or(0, |(_, to)| *to)
    }

    /// Encodes it for the file.
    pub(crate) fn encode(&self) -> String {
        let line = serde_json::to_string(self).unwrap_or_default();
        format!("{line}\n{:08x}\n", crc32_iscsi(line.as_bytes()))
    }

    /// Decodes a file; `None` if it is not exactly the output of [`Landed::encode`].
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let (line, sum) = text.strip_suffix('\n')?.split_once('\n')?;
        if u32::from_str_radix(sum, 16).ok()? != crc32_iscsi(line.as_bytes()) {
            return None;
        }
        let landed: Self = serde_json::from_str(line).ok()?;
        let in_order = landed.extents.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let is_sound = in_order && landed.extents.iter().all(|(from, to)| from < to);
        (is_sound && landed.total.is_none_or(|total| landed.end() <= total)).then_some(landed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_remembered_reads_back_in_order_and_joined(
            extents in prop::collection::vec((0..200_u64, 0..30_u64), 0..20),
            validator in prop::option::of(".*"),
        ) {
            let extents: Vec<_> = extents.into_iter().map(|(from, length)| (from, from + length)).collect();
            let landed = Landed::new("quay.io", &extents, Some(300), validator.as_deref());
            let has = |list: &[(u64, u64)], at: u64| list.iter().any(|(from, to)| (*from..*to).contains(&at));
            for at in 0..260 {
                prop_assert_eq!(has(&extents, at), has(&landed.extents, at), "byte {}", at);
            }
            prop_assert_eq!(Landed::decode(&landed.encode()), Some(landed));
        }

        #[test]
        fn a_changed_byte_is_seen(at in 0..60_usize, bit in 0..7_u32) {
            let mut text = Landed::new("quay.io", &[(0, 10), (20, 30)], None, Some("\"tag\"")).encode().into_bytes();
            text[at] ^= 1 << bit;
            let changed = String::from_utf8_lossy(&text).into_owned();
            prop_assert_eq!(Landed::decode(&changed), None);
        }
    }

    #[test]
    fn extents_past_the_end_or_out_of_order_are_refused() {
        for (total, extents) in [(Some(9), vec![(0, 10)]), (None, vec![(5, 9), (0, 3)]), (None, vec![(3, 3)])] {
            let landed = Landed { origin: "x".into(), total, validator: None, extents };
            assert_eq!(Landed::decode(&landed.encode()), None);
        }
    }
}
