//! Chooses the blobs to evict: those whose bytes are worth least, by how often and how recently they were used.
//!
//! Each blob has a heat: its uses, each of which counts half as much after twelve hours (LRFU). One use long ago and
//! one pull of everything at night weigh the same: one use. Content pulled by day has many, so that a nightly scan
//! evicts its own bytes and dead ones, and not the hot set, which LRU would evict. The worth of a blob is its heat
//! times the cost of a miss, a round trip and its bytes, for each byte that it takes (GDSF): small content outlives
//! large layers of equal heat, and among large ones the size does not count.
//!
//! Chosen over queues (S3-FIFO, 2Q, ARC), which keep an order in memory or an index on disk; heat is one number in the
//! row (`catalog/heat.rs`). Pure: it is offered all candidates in any order, and keeps only as many as are needed, so
//! that a million candidates cost no memory.

#[cfg(test)]
pub(crate) mod simulation;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::store::catalog::BlobRow;

/// The cost of a round trip to the registry, as the bytes that would arrive in that time.
const ROUND_TRIP: f64 = 256.0 * 1024.0;

/// The worth of one of its bytes, as a binary logarithm like the heat.
fn worth(row: &BlobRow) -> f64 {
    row.heat + (1.0 + ROUND_TRIP / row.size.max(1) as f64).log2()
}

/// A choice in progress.
pub(crate) struct Choice {
    need: u64,
    held: u64,
    chosen: BinaryHeap<Candidate>,
}

/// The one worth most is the greatest. Of two equal ones it is the one used later, then the one stored later.
struct Candidate {
    worth: f64,
    row: BlobRow,
}

impl Choice {
    /// Chooses victims of at least `need` bytes.
    pub(crate) fn new(need: u64) -> Self {
        Self { need, held: 0, chosen: BinaryHeap::new() }
    }

    /// Considers a candidate.
    pub(crate) fn offer(&mut self, row: BlobRow) {
        self.held += row.size;
        self.chosen.push(Candidate { worth: worth(&row), row });
        while let Some(Candidate { row, .. }) = self.chosen.peek()
            && self.held - row.size >= self.need
        {
            self.held -= row.size;
            self.chosen.pop();
        }
    }

    /// Returns the victims, those worth least first.
    pub(crate) fn victims(self) -> Vec<BlobRow> {
        self.chosen.into_sorted_vec().into_iter().map(|candidate| candidate.row).collect()
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let rest = |of: &Self| (of.row.last_used, of.row.id);
        self.worth.total_cmp(&other.worth).then_with(|| rest(self).cmp(&rest(other)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Algorithm, Digest};
    use crate::store::catalog::heat;

    fn row(id: i64, at: i64, size: u64) -> BlobRow {
        let digest = Digest::of(Algorithm::Sha256, b"");
        BlobRow { id, digest, size, last_used: at, proven: true, pinned: false, heat: heat(at) }
    }

    const DAY: i64 = 24 * 3600 * 1_000_000;

    proptest! {
        #[test]
        fn the_victims_are_the_shortest_run_of_the_least_worth_that_is_enough(
            candidates in prop::collection::vec((0..20_i64, 0..50_u64), 0..60),
            need in 1..500_u64,
        ) {
            let rows: Vec<BlobRow> = (0..).zip(&candidates).map(|(id, (at, size))| row(id, *at * DAY, *size)).collect();
            let mut choice = Choice::new(need);
            rows.iter().for_each(|row| choice.offer(*row));
            let mut sorted = rows;
            sorted.sort_by(|a, b| worth(a).total_cmp(&worth(b)).then((a.last_used, a.id).cmp(&(b.last_used, b.id))));
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

    #[test]
    fn small_content_outlives_a_large_layer_of_equal_heat_and_large_ones_are_alike() {
        let now = 1_700_000_000_000_000;
        let used_at = |days: i64, size| worth(&row(1, now - days * DAY, size));
        assert!(used_at(3, 2000) > used_at(0, 1 << 30), "a manifest of three days ago before a layer of today");
        assert!((used_at(0, 100 << 20) - used_at(0, 1 << 30)).abs() < 0.02);
        assert!(used_at(3, 100 << 20) < used_at(0, 1 << 30));
    }
}
