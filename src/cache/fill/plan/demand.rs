//! Finds the bytes that readers want and no lane brings soon. Pure.
//!
//! A reader just ahead of a lane follows it; one far ahead gets a lane of its own, short at first and longer as
//! it is used, which takes along what other readers want next to it.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::claims::{Claim, Claims, Ground, Role};
use crate::wire::Span;

/// So many bytes ahead of a lane count as about to land, whatever its rate.
const NEAR: u64 = 1 << 20;
/// So many seconds ahead of a lane do, too.
const SOON: u64 = 1;
/// A reader's lane fetches at least this much, and at most that much at a time.
const LEAST: u64 = 128 << 10;
const FIRST: u64 = 1 << 20;
const MOST: u64 = 16 << 20;
/// Two readers' bytes with a gap of at most this between them are fetched together.
const GAP: u64 = 128 << 10;
/// How many lanes' ends are remembered, to let the next one be longer.
const REMEMBERED: usize = 64;

/// One reader's place in the plan. [`ReaderId::HASHER`] is the digest reader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReaderId(pub(crate) u64);

impl ReaderId {
    pub(crate) const HASHER: Self = Self(0);
}

/// Bytes to fetch for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) at: u64,
    pub(crate) length: u64,
}

/// Where readers are and where they go.
#[derive(Debug, Default)]
pub(crate) struct Demands {
    readers: BTreeMap<ReaderId, Span>,
    granted: VecDeque<(u64, u64)>,
    /// Where the last demand was: the next one after it comes first, so that nobody is passed over for ever.
    last: u64,
}

/// Whether a lane is about to bring a byte that it covers.
pub(crate) fn is_near(claim: &Claim, at: u64) -> bool {
    claim.distance(at) <= NEAR
}

fn is_soon(claim: &Claim, at: u64, now: Instant) -> bool {
    claim.rate(now).is_some_and(|rate| claim.distance(at) <= rate.saturating_mul(SOON))
}

impl Demands {
    pub(crate) fn join_reader(&mut self, reader: ReaderId, span: Span) {
        self.readers.insert(reader, span);
    }

    pub(crate) fn moved(&mut self, reader: ReaderId, at: u64) {
        if let Some(span) = self.readers.get_mut(&reader) {
            span.from = at;
        }
    }

    pub(crate) fn leave(&mut self, reader: ReaderId) {
        self.readers.remove(&reader);
    }

    /// Whether a reader wants any of `span`.
    pub(crate) fn touch(&self, span: Span) -> bool {
        self.readers.values().any(|reader| reader.from < span.to && reader.to > span.from)
    }

    /// A demand was granted: a reader that comes to its end gets twice as much the next time.
    pub(crate) fn granted(&mut self, span: Span, length: u64) {
        self.last = span.from;
        self.granted.push_back((span.to, length));
        if self.granted.len() > REMEMBERED {
            self.granted.pop_front();
        }
    }

    /// The next demand, of those who wait before those who will; and whether somebody relies on a lane's rate,
    /// which may fall.
    pub(crate) fn next(
        &self,
        waiting: impl Iterator<Item = (u64, ReaderId)>,
        claims: &Claims,
        ground: Ground<'_>,
        now: Instant,
    ) -> (Option<Demand>, bool) {
        let mut places: Vec<(bool, bool, u64)> = Vec::new(); // who waits first, then round robin
        let mut place = |is_later: bool, at: u64| {
            if !ground.landed.holds(at) && ground.total.is_none_or(|total| at < total) {
                places.push((is_later, at <= self.last, at));
            }
        };
        waiting.for_each(|(at, _)| place(false, at));
        self.readers.values().filter(|span| span.from < span.to).for_each(|span| place(true, span.from));
        places.sort_unstable();
        places.dedup();
        let no_worker = claims.count(Role::Worker) == 0;
        let hole = claims.hole(ground);
        let mut later = false;
        for (_, _, at) in places {
            match claims.cover(at) {
                Some(claim) if is_near(claim, at) => {}
                Some(claim) if is_soon(claim, at, now) => later = true,
                // The next worker begins there, or just before.
                None if no_worker && hole.is_some_and(|hole| hole <= at && at - hole <= NEAR) => {}
                _ => return (Some(Demand { at, length: self.length(at) }), later),
            }
        }
        (None, later)
    }

    fn length(&self, at: u64) -> u64 {
        let before = self.granted.iter().rev().find(|(end, _)| *end == at);
        let limit = before.map_or(FIRST, |(_, length)| length.saturating_mul(2)).clamp(FIRST, MOST);
        let wanted = self.readers.values().filter(|span| span.from == at).map(|span| span.to).max().unwrap_or(at);
        let mut end = wanted.min(at.saturating_add(limit));
        let mut neighbours: Vec<Span> = self.readers.values().filter(|span| span.from > at).copied().collect();
        neighbours.sort_unstable_by_key(|span| span.from);
        for span in neighbours {
            if span.from > end.saturating_add(GAP) || end - at >= MOST {
                break;
            }
            end = end.max(span.to.min(span.from.saturating_add(FIRST)));
        }
        (end - at).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::fill::Extents;
    use crate::cache::fill::plan::claims::LaneId;

    const MIB: u64 = 1 << 20;

    fn next(demands: &Demands, claims: &Claims, waiting: &[u64]) -> (Option<Demand>, bool) {
        let landed = Extents::default();
        let ground = Ground { landed: &landed, total: Some(1000 * MIB) };
        demands.next(waiting.iter().map(|at| (*at, ReaderId(1))), claims, ground, Instant::now())
    }

    #[test]
    fn near_bytes_are_followed_and_far_ones_fetched() {
        let landed = Extents::default();
        let mut claims = Claims::default();
        let ground = Ground { landed: &landed, total: Some(1000 * MIB) };
        claims.claim(LaneId(1), Role::Worker, 0, u64::MAX, ground);
        let mut demands = Demands::default();
        assert_eq!(next(&demands, &claims, &[0, MIB]), (None, false));
        demands.join_reader(ReaderId(1), Span { from: 50 * MIB, to: 50 * MIB + 10 });
        let demand = Some(Demand { at: 50 * MIB, length: LEAST });
        assert_eq!(next(&demands, &claims, &[50 * MIB]), (demand, false));
        claims.measured(LaneId(1), 60 * MIB, Instant::now());
        assert_eq!(next(&demands, &claims, &[50 * MIB]), (None, true), "at this rate it is there soon");
        claims.measured(LaneId(1), MIB, Instant::now());
        assert_eq!(next(&demands, &claims, &[50 * MIB]).0, demand, "but it fell");
        claims.measured(LaneId(1), 60 * MIB, Instant::now() - Duration::from_secs(1));
        assert_eq!(
            next(&demands, &claims, &[50 * MIB]).0,
            demand,
            "what was measured before it stalled is not believed"
        );
    }

    #[test]
    fn what_is_used_grows_and_neighbours_come_along() {
        let claims = Claims::default();
        let mut demands = Demands::default();
        demands.join_reader(ReaderId(1), Span { from: 50 * MIB, to: 1000 * MIB });
        let mut at = 50 * MIB;
        for expected in [1, 2, 4, 8, 16, 16] {
            let demand = next(&demands, &claims, &[at]).0.unwrap();
            assert_eq!(demand, Demand { at, length: expected * MIB });
            demands.granted(Span { from: at, to: at + demand.length }, demand.length);
            at += demand.length;
            demands.moved(ReaderId(1), at);
        }
        let mut demands = Demands::default();
        for part in 0..4 {
            let from = 50 * MIB + part * 150_000;
            demands.join_reader(ReaderId(part + 1), Span { from, to: from + 50_000 });
        }
        assert_eq!(next(&demands, &claims, &[50 * MIB]).0, Some(Demand { at: 50 * MIB, length: 500_000 }));
    }

    #[test]
    fn nobody_is_passed_over_for_ever() {
        let claims = Claims::default();
        let mut demands = Demands::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let demand = next(&demands, &claims, &[50 * MIB, 200 * MIB, 400 * MIB]).0.unwrap();
            demands.granted(Span { from: demand.at, to: demand.at + demand.length }, demand.length);
            seen.push(demand.at / MIB);
        }
        assert_eq!(seen, [50, 200, 400]);
    }
}
