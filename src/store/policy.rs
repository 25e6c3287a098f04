//! Which blobs to evict: those used longest ago.
//!
//! Pure: offered every candidate in any order, it answers the victims. The scan keeps only as many as are
//! needed, so a million candidates cost no memory. Another policy takes this file's place and nothing else's.

use std::collections::BinaryHeap;

use super::catalog::Row;

/// How long until a use counts half, in microseconds.
pub(super) const HALF_LIFE: f64 = 3.0 * 24.0 * 3600e6;
/// Uses that come closer than this count as parts of one, in microseconds: a client that reads a layer by a
/// hundred ranges, or a deployment to a hundred nodes, is not a hundred pulls.
const ONE_PULL: f64 = 60e6;

/// The heat of one use at `at` (microseconds since 1970). Heat is the binary logarithm of the uses, each of which
/// doubles in weight every half-life since 1970 instead of losing it since it happened: so it needs no updating.
pub(super) fn heat(at: i64) -> f64 {
    at as f64 / HALF_LIFE
}

/// The heat after a use at `at` more, `last` having been the last one before.
pub(super) fn heated(heat_before: f64, last: i64, at: i64) -> f64 {
    let share = ((at - last) as f64 / ONE_PULL).clamp(0.0, 1.0);
    let most = heat_before.max(heat(at));
    most + ((heat_before - most).exp2() + share * (heat(at) - most).exp2()).log2()
}

/// A choice in the making.
pub(super) struct Choice {
    need: u64,
    held: u64,
    chosen: BinaryHeap<ByUse>,
}

/// The latest used is the greatest; of two alike the one stored later.
struct ByUse(Row);

impl Choice {
    /// Victims are wanted that are worth at least `need` bytes.
    pub(super) fn new(need: u64) -> Self {
        Self { need, held: 0, chosen: BinaryHeap::new() }
    }

    /// Takes a candidate into account.
    pub(super) fn offer(&mut self, row: Row) {
        self.held += row.size;
        self.chosen.push(ByUse(row));
        while let Some(ByUse(latest)) = self.chosen.peek()
            && self.held - latest.size >= self.need
        {
            self.held -= latest.size;
            self.chosen.pop();
        }
    }

    /// The victims, the one used longest ago first.
    pub(super) fn victims(self) -> Vec<Row> {
        self.chosen.into_sorted_vec().into_iter().map(|ByUse(row)| row).collect()
    }
}

impl ByUse {
    fn key(&self) -> (i64, i64) {
        (self.0.last_used, self.0.id)
    }
}

impl PartialEq for ByUse {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ByUse {}

impl PartialOrd for ByUse {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByUse {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Algorithm, Digest};

    fn row(id: i64, last_used: i64, size: u64) -> Row {
        Row { id, digest: Digest::of(Algorithm::Sha256, b""), size, last_used, proven: true, pinned: false, heat: 0.0 }
    }

    proptest! {
        #[test]
        fn the_victims_are_the_shortest_run_of_least_recently_used_that_is_enough(
            candidates in prop::collection::vec((0..20_i64, 0..50_u64), 0..60),
            need in 1..500_u64,
        ) {
            let rows: Vec<Row> = (0..).zip(&candidates).map(|(id, (used, size))| row(id, *used, *size)).collect();
            let mut choice = Choice::new(need);
            rows.iter().for_each(|row| choice.offer(*row));
            let mut sorted = rows;
            sorted.sort_by_key(|row| (row.last_used, row.id));
            let mut freed = 0;
            let expected: Vec<i64> = sorted
                .iter()
                .take_while(|row| {
                    let wanted = freed < need;
                    freed += row.size;
                    wanted
                })
                .map(|row| row.id)
                .collect();
            prop_assert_eq!(choice.victims().iter().map(|row| row.id).collect::<Vec<_>>(), expected);
        }
    }
}
