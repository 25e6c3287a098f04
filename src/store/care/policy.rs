//! Which blobs to evict: those whose bytes earn least, by how often and how lately they were used and what they cost.
//!
//! Each blob has a heat: its uses, each counting half as much after twelve hours (LRFU). A use long ago and one
//! pull of everything in the night are alike: one use. What is pulled by day has many, so that such a scan evicts
//! its own bytes and the dead ones, not the hot ones; LRU would evict the hot ones. What a blob is worth is its
//! heat by what a miss costs, a round trip and its bytes, for each byte that it takes (GDSF): small content
//! outlives large layers of equal heat, and among large ones size does not count.
//!
//! Chosen over queues (S3-FIFO, 2Q, ARC) since these keep an order in memory or an index on disk; heat is one
//! number in the row, written behind with the last use, and comparable at any time. Pure: offered every candidate
//! in any order, it answers the victims, and keeps only as many as are needed: a million candidates cost nothing.

#[cfg(test)]
pub(crate) mod simulation;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::store::catalog::Row;

/// How long until a use counts half, in microseconds. In the simulation half of it or twice as much is worse: too
/// short forgets the hot set over a weekend, too long keeps the layers of tags that have moved on.
pub(crate) const HALF_LIFE: f64 = 12.0 * 3600e6;
/// Uses that come closer than this count as parts of one, in microseconds: a client that reads a layer by a
/// hundred ranges, or a deployment to a hundred nodes, is not a hundred pulls.
const ONE_PULL: f64 = 60e6;
/// What a round trip to the registry costs, as the bytes that would have come in that time.
const ROUND_TRIP: f64 = 256.0 * 1024.0;

/// The heat of one use at `at` (microseconds since 1970). Heat is the binary logarithm of the uses, each of which
/// doubles in weight every half-life since 1970 instead of losing it since it happened: so it needs no updating.
pub(crate) fn heat(at: i64) -> f64 {
    at as f64 / HALF_LIFE
}

/// The heat after one more use at `at`, `last` having been the last one before.
pub(crate) fn heated(before: f64, last: i64, at: i64) -> f64 {
    let share = (at.saturating_sub(last) as f64 / ONE_PULL).clamp(0.0, 1.0);
    let most = before.max(heat(at));
    most + ((before - most).exp2() + share * (heat(at) - most).exp2()).log2()
}

/// What a byte of it is worth, as a binary logarithm like the heat.
fn worth(row: &Row) -> f64 {
    row.heat + (1.0 + ROUND_TRIP / row.size.max(1) as f64).log2()
}

/// A choice in the making.
pub(crate) struct Choice {
    need: u64,
    held: u64,
    chosen: BinaryHeap<Candidate>,
}

/// The most worth is the greatest; of two alike the one used later, then the one stored later.
struct Candidate {
    worth: f64,
    row: Row,
}

impl Choice {
    /// Victims are wanted that are worth at least `need` bytes.
    pub(crate) fn new(need: u64) -> Self {
        Self { need, held: 0, chosen: BinaryHeap::new() }
    }

    /// Takes a candidate into account.
    pub(crate) fn offer(&mut self, row: Row) {
        self.held += row.size;
        self.chosen.push(Candidate { worth: worth(&row), row });
        while let Some(Candidate { row, .. }) = self.chosen.peek()
            && self.held - row.size >= self.need
        {
            self.held -= row.size;
            self.chosen.pop();
        }
    }

    /// The victims, the least worth first.
    pub(crate) fn victims(self) -> Vec<Row> {
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

    fn row(id: i64, at: i64, size: u64) -> Row {
        let digest = Digest::of(Algorithm::Sha256, b"");
        Row { id, digest, size, last_used: at, proven: true, pinned: false, heat: heat(at) }
    }

    const DAY: i64 = 24 * 3600 * 1_000_000;

    proptest! {
        #[test]
        fn the_victims_are_the_shortest_run_of_the_least_worth_that_is_enough(
            candidates in prop::collection::vec((0..20_i64, 0..50_u64), 0..60),
            need in 1..500_u64,
        ) {
            let rows: Vec<Row> = (0..).zip(&candidates).map(|(id, (at, size))| row(id, *at * DAY, *size)).collect();
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

        #[test]
        fn a_use_never_cools_and_one_that_is_parts_counts_once(
            uses in prop::collection::vec(0..10 * DAY, 1..50),
        ) {
            let (mut now, mut warm) = (1_700_000_000_000_000_i64, heat(1_700_000_000_000_000));
            for pause in uses {
                let next = heated(warm, now, now + pause);
                prop_assert!(next >= warm && next >= heat(now), "{} {}", next, warm);
                now += pause;
                warm = next;
            }
            let by_parts = (1..=100).fold(warm, |warm, part| heated(warm, now + (part - 1) * 600_000, now + part * 600_000));
            let at_once = heated(warm, now, now + 60_000_000);
            prop_assert!((by_parts - at_once).abs() < 0.01, "{} {}", by_parts, at_once);
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

    #[test]
    fn a_hundred_uses_before_the_weekend_outlive_one_today() {
        let now = 1_700_000_000_000_000;
        let then = now - 5 * DAY / 2;
        let hot = (1..100).fold(heat(then), |warm, n| heated(warm, then + (n - 1) * 60_000_000, then + n * 60_000_000));
        assert!(hot > heat(now) + 1.0);
        assert!(hot < heat(now + 2 * DAY), "but not one two days later");
    }
}
