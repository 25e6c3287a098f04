//! Assigns bytes to lanes: disjoint claims over what has not landed. Pure.
//!
//! No two lanes ever write the same byte: what one has reserved is out of every other's reach until that lane
//! let go of it, so that bytes which were hashed are never written over.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::fill::Extents;
use crate::wire::Span;

/// How long a measured rate is believed: a lane that brings nothing more does not measure again.
const BELIEVED: Duration = Duration::from_secs(1);

/// One lane of a fill: an upstream request and the task that lands what it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(crate) u64);

/// What a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It fills the content from the first hole on.
    Worker,
    /// It fetches what a reader far ahead waits for.
    Scout,
}

/// What a lane has taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    role: Role,
    /// Its first byte that has not landed.
    base: u64,
    /// The next byte to be reserved: from `base` to here bytes are on their way to the file.
    next: u64,
    /// The first byte that is not its own.
    to: u64,
    /// Bytes a second, and when that was measured, once it has brought some.
    rate: Option<(u64, Instant)>,
}

/// What a lane may do whose stream has more bytes than its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GoOn {
    /// Leave out so many bytes, then go on: the claim reaches further now.
    Skip(u64),
    /// Stop: what follows is there, or another's.
    Stop,
    /// The content has no more bytes.
    TooMuch,
}

/// All claims of one fill.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<LaneId, Claim>);

/// What a claim is made over: what has landed, and the length if it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) landed: &'a Extents,
    pub(crate) total: Option<u64>,
}

impl Ground<'_> {
    fn end(self) -> u64 {
        self.total.unwrap_or(u64::MAX)
    }
}

impl Claim {
    fn covers(&self, at: u64) -> bool {
        (self.base..self.to).contains(&at)
    }

    /// How many bytes it brings before the one at `at`, which it covers. None for what is on its way to the file.
    pub(crate) fn distance(&self, at: u64) -> u64 {
        if at < self.next { 0 } else { at - self.base }
    }

    /// Bytes a second, if it has brought some lately.
    pub(crate) fn rate(&self, now: Instant) -> Option<u64> {
        self.rate.filter(|(_, at)| now.saturating_duration_since(*at) < BELIEVED).map(|(rate, _)| rate)
    }

    /// How many of its bytes are not reserved yet.
    pub(crate) fn rest(&self) -> u64 {
        self.to.saturating_sub(self.next)
    }

    /// What it still brings.
    pub(crate) fn span(&self) -> Span {
        Span { from: self.base, to: self.to }
    }
}

impl Claims {
    /// Claims up to `length` bytes from `at` on, as far as they are missing and nobody's. Of a claim that covers
    /// `at`, its lane keeps what lies before. `None` if that byte is there or on its way to the file.
    pub(crate) fn claim(&mut self, lane: LaneId, role: Role, at: u64, length: u64, ground: Ground<'_>) -> Option<Span> {
        if at >= ground.end() || ground.landed.holds(at) {
            return None;
        }
        let mut to = at.saturating_add(length).min(ground.end());
        to = ground.landed.next_from(at).map_or(to, |next| next.min(to));
        for claim in self.0.values() {
            if claim.covers(at) && at < claim.next {
                return None;
            }
            if claim.base > at {
                to = to.min(claim.base);
            }
        }
        for claim in self.0.values_mut().filter(|claim| claim.covers(at)) {
            claim.to = at;
        }
        self.0.insert(lane, Claim { role, base: at, next: at, to, rate: None });
        Some(Span { from: at, to })
    }

    /// Takes up to `wanted` bytes of a lane's claim for writing; they begin where the last ones ended.
    pub(crate) fn reserve(&mut self, lane: LaneId, wanted: u64) -> u64 {
        let Some(claim) = self.0.get_mut(&lane) else { return 0 };
        let granted = wanted.min(claim.to.saturating_sub(claim.next));
        claim.next += granted;
        granted
    }

    /// Asks for more, up to `limit` bytes further on, for a stream that reaches to `stream_to`.
    pub(crate) fn go_on(&mut self, lane: LaneId, stream_to: Option<u64>, limit: u64, ground: Ground<'_>) -> GoOn {
        let Some(own) = self.0.get(&lane).copied() else { return GoOn::Stop };
        if ground.total.is_some_and(|total| own.next >= total) {
            return GoOn::TooMuch;
        }
        let from = ground.landed.end_from(own.next);
        let end = ground.end().min(stream_to.unwrap_or(u64::MAX));
        let mut others = self.0.iter().filter(|(id, _)| **id != lane).map(|(_, claim)| claim);
        if from >= end || from - own.next > limit || others.clone().any(|claim| claim.covers(from)) {
            return GoOn::Stop;
        }
        let mut to = ground.landed.next_from(from).map_or(end, |next| next.min(end));
        to = others.by_ref().map(|claim| claim.base).filter(|base| *base > from).fold(to, u64::min);
        if let Some(claim) = self.0.get_mut(&lane) {
            *claim = Claim { base: if own.base == own.next { from } else { own.base }, next: from, to, ..own };
        }
        GoOn::Skip(from - own.next)
    }

    /// A lane's bytes up to `to` are in the file.
    pub(crate) fn landed(&mut self, lane: LaneId, to: u64) {
        if let Some(claim) = self.0.get_mut(&lane) {
            claim.base = claim.base.max(to);
        }
    }

    /// A lane has measured how fast it is, in bytes a second.
    pub(crate) fn measured(&mut self, lane: LaneId, rate: u64, now: Instant) {
        if let Some(claim) = self.0.get_mut(&lane) {
            claim.rate = Some((rate, now));
        }
    }

    /// A lane lets go: nothing of it is on its way to the file any more.
    pub(crate) fn release(&mut self, lane: LaneId) -> Option<Claim> {
        self.0.remove(&lane)
    }

    /// The length is known now.
    pub(crate) fn clip(&mut self, total: u64) {
        for claim in self.0.values_mut() {
            claim.to = claim.to.min(total);
        }
    }

    /// The first byte that is neither there nor claimed.
    pub(crate) fn hole(&self, ground: Ground<'_>) -> Option<u64> {
        let mut at = 0;
        loop {
            at = ground.landed.end_from(at);
            if at >= ground.end() {
                return None;
            }
            match self.cover(at) {
                Some(claim) => at = claim.to,
                None => return Some(at),
            }
        }
    }

    /// A place to cut the largest claim for another lane: after `chunk` bytes of it, or in its middle, but never
    /// pieces of less than `least`.
    pub(crate) fn cut(&self, chunk: u64, least: u64, ground: Ground<'_>) -> Option<u64> {
        let rest = |claim: &&Claim| claim.to.min(ground.end()).saturating_sub(claim.next);
        let largest = self.0.values().max_by_key(rest)?;
        let half = rest(&largest) / 2;
        (half >= least && ground.total.is_some()).then(|| largest.next + half.min(chunk))
    }

    /// The claim that a byte is in.
    pub(crate) fn cover(&self, at: u64) -> Option<&Claim> {
        self.0.values().find(|claim| claim.covers(at))
    }

    /// A lane's claim.
    pub(crate) fn of(&self, lane: LaneId) -> Option<&Claim> {
        self.0.get(&lane)
    }

    /// How many lanes of a kind there are.
    pub(crate) fn count(&self, role: Role) -> usize {
        self.0.values().filter(|claim| claim.role == role).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LaneId = LaneId(1);
    const B: LaneId = LaneId(2);

    fn span(from: u64, to: u64) -> Option<Span> {
        Some(Span { from, to })
    }

    #[test]
    fn a_claim_takes_what_nobody_has_reserved() {
        let (mut claims, mut landed) = (Claims::default(), Extents::of(&[(50, 60)]));
        let unknown = Ground { landed: &landed, total: None };
        assert_eq!(claims.claim(A, Role::Worker, 0, u64::MAX, unknown), span(0, 50));
        assert_eq!(claims.reserve(A, 10), 10);
        assert_eq!(claims.claim(B, Role::Scout, 5, 100, unknown), None, "on its way to the file");
        assert_eq!(claims.claim(B, Role::Scout, 50, 100, unknown), None, "there");
        assert_eq!(claims.claim(B, Role::Scout, 20, 5, unknown), span(20, 25));
        assert_eq!(claims.reserve(A, 100), 10, "cut at 20");
        assert_eq!(claims.go_on(A, None, 100, unknown), GoOn::Stop, "another's");
        assert_eq!(claims.hole(unknown), Some(25));
        claims.reserve(B, 5);
        claims.release(B);
        landed.insert(Span { from: 20, to: 25 });
        let known = Ground { landed: &landed, total: Some(61) };
        assert_eq!(claims.go_on(A, None, 4, known), GoOn::Stop, "too far to leave out");
        assert_eq!(claims.go_on(A, None, 5, known), GoOn::Skip(5));
        assert_eq!(claims.reserve(A, 100), 25, "up to what is there");
        assert_eq!(claims.go_on(A, None, 10, known), GoOn::Skip(10));
        assert_eq!(claims.reserve(A, 100), 1);
        assert_eq!(claims.go_on(A, None, 10, known), GoOn::TooMuch);
    }

    #[test]
    fn the_largest_claim_is_cut_for_another_lane() {
        let landed = Extents::default();
        let ground = Ground { landed: &landed, total: Some(1000) };
        let mut claims = Claims::default();
        claims.claim(A, Role::Worker, 0, u64::MAX, ground);
        assert_eq!(claims.cut(100, 10, ground), Some(100));
        assert_eq!(claims.cut(900, 10, ground), Some(500));
        assert_eq!(claims.cut(100, 501, ground), None);
        assert_eq!(claims.claim(B, Role::Worker, 100, 100, ground), span(100, 200));
        assert_eq!(claims.hole(ground), Some(200));
    }
}
