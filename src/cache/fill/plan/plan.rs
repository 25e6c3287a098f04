//! The plan of a fill: what has landed, who reads where, which lane fetches what, and how it ended. Pure: no I/O, no clock.
//!
//! The hold: a reader of the whole content gets its last byte only once the digest matched, so that no
//! client can take a wrong content for a finished one.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::claims::{Claims, GoOn, Ground, LaneId, Role};
use super::demand::{Demand, Demands, ReaderId};
use super::phase::{Gone, Phase, stopping};
use crate::cache::fill::Extents;
use crate::wire::Span;

/// The state that the lanes, the digest reader and all followers share.
#[derive(Debug)]
pub(crate) struct Plan {
    total: Option<u64>,
    landed: Extents,
    claims: Claims,
    demands: Demands,
    waiting: BTreeMap<(u64, ReaderId), Waker>,
    waiters: usize,
    phase: Phase,
}

/// A source contradicted what is known of the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream announces {said} bytes, but {known} were announced before")]
pub(crate) struct LengthChanged {
    known: u64,
    said: u64,
}

impl Plan {
    /// These bytes have landed before.
    pub(crate) fn new(landed: Extents, total: Option<u64>) -> Self {
        Self {
            total,
            landed,
            claims: Claims::default(),
            demands: Demands::default(),
            waiting: BTreeMap::new(),
            waiters: 0,
            phase: Phase::Filling,
        }
    }

    /// The content's length in bytes, once it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// How far it is.
    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// How many bytes have landed.
    pub(crate) fn progress(&self) -> u64 {
        self.landed.count()
    }

    /// What has landed.
    pub(crate) fn landed(&self) -> &Extents {
        &self.landed
    }

    /// Whether anything is missing, as far as is known.
    pub(crate) fn is_missing(&self) -> bool {
        self.total.is_none_or(|total| self.landed.end_from(0) < total)
    }

    /// Somebody waits for the content, or is about to. Not once it has ended without success.
    pub(crate) fn enter(&mut self) -> bool {
        let open = matches!(self.phase, Phase::Filling | Phase::Verified(_));
        self.waiters += usize::from(open);
        open
    }

    /// One who is here brings another.
    pub(crate) fn enter_with_another(&mut self) {
        self.waiters += 1;
    }

    /// One who entered has left. Whether nobody is here any more.
    pub(crate) fn exit(&mut self) -> bool {
        self.waiters = self.waiters.saturating_sub(1);
        self.waiters == 0
    }

    /// Whether nobody waits for it.
    pub(crate) fn is_deserted(&self) -> bool {
        self.waiters == 0
    }

    /// Learns the length; its waiters have to be woken.
    pub(crate) fn learn_total(&mut self, said: u64) -> Result<Vec<Waker>, LengthChanged> {
        match self.total {
            Some(known) if known != said => Err(LengthChanged { known, said }),
            Some(_) => Ok(Vec::new()),
            None if self.landed.end() > said => Err(LengthChanged { known: self.landed.end(), said }),
            None => {
                self.total = Some(said);
                self.claims.clip(said);
                Ok(self.drain_waiting())
            }
        }
    }

    /// A lane for the whole: from the first hole that nobody fills, else out of another's claim, if that leaves
    /// at least `least` bytes to each.
    pub(crate) fn claim_work(&mut self, lane: LaneId, chunk: u64, least: u64) -> Option<Span> {
        let ground = Ground { landed: &self.landed, total: self.total };
        let at = self.claims.hole(ground).or_else(|| self.claims.cut(chunk, least, ground))?;
        self.claims.claim(lane, Role::Worker, at, chunk, ground)
    }

    /// A lane for a reader.
    pub(crate) fn claim_demand(&mut self, lane: LaneId, demand: Demand) -> Option<Span> {
        let ground = Ground { landed: &self.landed, total: self.total };
        let span = self.claims.claim(lane, Role::Scout, demand.at, demand.length, ground)?;
        self.demands.granted(span, demand.length);
        Some(span)
    }

    /// The next reader that waits for what no lane brings soon; and whether there is one that should be looked at
    /// again later.
    pub(crate) fn next_demand(&mut self, now: Instant) -> (Option<Demand>, bool) {
        let Some(total) = self.total else { return (None, false) };
        let waiting =
            self.waiting.keys().filter(|(_, reader)| *reader != ReaderId::HASHER).map(|(at, reader)| (*at, *reader));
        self.demands.next(waiting, &self.claims, Ground { landed: &self.landed, total: Some(total) }, now)
    }

    /// See [`Claims::reserve`].
    pub(crate) fn reserve(&mut self, lane: LaneId, wanted: u64) -> u64 {
        self.claims.reserve(lane, wanted)
    }

    /// See [`Claims::go_on`].
    pub(crate) fn go_on(&mut self, lane: LaneId, stream_to: Option<u64>, limit: u64) -> GoOn {
        self.claims.go_on(lane, stream_to, limit, Ground { landed: &self.landed, total: self.total })
    }

    /// See [`Claims::measured`].
    pub(crate) fn measured(&mut self, lane: LaneId, rate: u64, now: Instant) {
        self.claims.measured(lane, rate, now);
    }

    /// A lane is gone.
    pub(crate) fn release(&mut self, lane: LaneId) {
        self.claims.release(lane);
    }

    /// How many lanes of a kind there are.
    pub(crate) fn lanes(&self, role: Role) -> usize {
        self.claims.count(role)
    }

    /// How much of a lane's claim it has not reserved yet.
    pub(crate) fn rest(&self, lane: LaneId) -> u64 {
        self.claims.of(lane).map_or(0, super::claims::Claim::rest)
    }

    /// Whether a reader wants anything of what a lane still brings.
    pub(crate) fn is_wanted(&self, lane: LaneId) -> bool {
        self.claims.of(lane).is_some_and(|claim| self.demands.touch(claim.span()))
    }

    /// A reader of `span` joins, whether it begins now or later.
    pub(crate) fn join_reader(&mut self, reader: ReaderId, span: Span) {
        self.demands.join_reader(reader, span);
    }

    /// Up to where a reader at `at` may read now; `at` itself at the end of a verified content. Checks and
    /// registers under one borrow, so no landing is missed.
    pub(crate) fn readable(
        &mut self,
        at: u64,
        hold: bool,
        reader: ReaderId,
        cx: &Context<'_>,
    ) -> Poll<Result<u64, Gone>> {
        self.demands.moved(reader, at);
        let landed = self.landed.end_from(at);
        let free = match &self.phase {
            Phase::Verified(_) => return Poll::Ready(Ok(landed)),
            Phase::Broken(fault) => return Poll::Ready(Err(Gone::Broken(fault.clone()))),
            Phase::Parked if reader == ReaderId::HASHER => return Poll::Ready(Err(Gone::Broken(stopping()))),
            Phase::Filling | Phase::Parked | Phase::Detached(_) if hold => self.held_end(landed),
            Phase::Filling | Phase::Parked | Phase::Detached(_) => landed,
        };
        if free > at || (!hold && self.total == Some(at)) {
            return Poll::Ready(Ok(free.max(at)));
        }
        match &self.phase {
            Phase::Detached(fault) => return Poll::Ready(Err(Gone::Detached(fault.clone()))),
            Phase::Parked => return Poll::Ready(Err(Gone::Broken(stopping()))), // readers are left when we stop
            _ => {}
        }
        self.waiting.insert((at, reader), cx.waker().clone());
        Poll::Pending
    }

    /// Whether a reader at `at` should be looked after: no lane is about to bring that byte.
    pub(crate) fn is_far(&self, at: u64) -> bool {
        !self.landed.holds(at) && self.claims.cover(at).is_none_or(|claim| !super::demand::is_near(claim, at))
    }

    /// Until the digest matched, the last byte is held; while the length is unknown, any byte may be the last.
    fn held_end(&self, landed: u64) -> u64 {
        match self.total {
            Some(total) => landed.min(total.saturating_sub(1)),
            None => landed.saturating_sub(1),
        }
    }

    /// A lane's bytes are in the file. The wakers are to be woken after the lock is gone.
    pub(crate) fn land(&mut self, lane: LaneId, span: Span) -> Vec<Waker> {
        self.landed.insert(span);
        self.claims.landed(lane, span.to);
        let reach = self.landed.end_from(span.from);
        let first = (span.from.saturating_sub(1), ReaderId(0)); // a held reader waits one byte before the front
        let keys: Vec<_> = self.waiting.range(first..(reach, ReaderId(0))).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| self.waiting.remove(key)).collect()
    }

    /// A reader has left.
    pub(crate) fn leave(&mut self, at: u64, reader: ReaderId) {
        self.waiting.remove(&(at, reader));
        self.demands.leave(reader);
    }

    /// The fill ends; everybody is to be woken.
    pub(crate) fn end(&mut self, phase: Phase) -> Vec<Waker> {
        self.phase = phase;
        self.drain_waiting()
    }

    fn drain_waiting(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::cache::{Fault, Retry};

    const LANE: LaneId = LaneId(1);

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn empty() -> Plan {
        Plan::new(Extents::default(), None)
    }

    fn land(plan: &mut Plan, from: u64, to: u64) -> Vec<Waker> {
        plan.land(LANE, Span { from, to })
    }

    fn read(plan: &mut Plan, at: u64, hold: bool, count: &Arc<Count>) -> Option<Result<u64, String>> {
        let waker = Waker::from(count.clone());
        match plan.readable(at, hold, ReaderId(1), &Context::from_waker(&waker)) {
            Poll::Ready(Ok(end)) => Some(Ok(end)),
            Poll::Ready(Err(Gone::Broken(fault) | Gone::Detached(fault))) => Some(Err(fault.to_string())),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_reader_of_the_whole_waits_for_the_last_byte_until_the_digest_matched() {
        let (mut plan, count) = (empty(), Arc::default());
        plan.learn_total(10).unwrap();
        land(&mut plan, 0, 10);
        assert_eq!(read(&mut plan, 0, true, &count), Some(Ok(9)));
        assert_eq!(read(&mut plan, 9, true, &count), None);
        assert_eq!(read(&mut plan, 9, false, &count), Some(Ok(10)));
        plan.end(Phase::Verified(10)).into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(read(&mut plan, 9, true, &count), Some(Ok(10)));
    }

    #[test]
    fn without_a_known_length_the_latest_byte_is_held() {
        let (mut plan, count) = (empty(), Arc::default());
        land(&mut plan, 0, 4);
        assert_eq!(read(&mut plan, 0, true, &count), Some(Ok(3)));
        assert_eq!(read(&mut plan, 3, true, &count), None);
        land(&mut plan, 4, 8).into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "a held reader wakes when the front moves");
        assert_eq!(read(&mut plan, 3, true, &count), Some(Ok(7)));
    }

    #[test]
    fn only_readers_within_what_landed_are_woken() {
        let (mut plan, near, far) = (empty(), Arc::default(), Arc::default());
        plan.learn_total(100).unwrap();
        assert_eq!(read(&mut plan, 10, false, &near), None);
        assert_eq!(read(&mut plan, 50, false, &far), None);
        land(&mut plan, 0, 50).into_iter().for_each(Waker::wake);
        assert_eq!((near.0.load(Ordering::SeqCst), far.0.load(Ordering::SeqCst)), (1, 0));
    }

    #[test]
    fn a_broken_fill_breaks_every_reader_and_one_adrift_gives_what_it_has() {
        let (mut plan, count) = (empty(), Arc::default());
        let fault = || Fault::new(Retry::Never, std::io::Error::other("gone"));
        land(&mut plan, 0, 4);
        assert_eq!(read(&mut plan, 4, false, &count), None);
        plan.end(Phase::Detached(fault())).into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(read(&mut plan, 0, false, &count), Some(Ok(4)));
        assert_eq!(read(&mut plan, 4, false, &count), Some(Err("gone".to_owned())));
        plan.end(Phase::Broken(fault()));
        assert_eq!(read(&mut plan, 0, false, &count), Some(Err("gone".to_owned())));
    }

    #[test]
    fn a_length_that_changes_is_refused() {
        let mut plan = empty();
        land(&mut plan, 0, 4);
        assert!(plan.learn_total(3).is_err());
        assert!(plan.learn_total(4).is_ok());
        assert!(plan.learn_total(5).is_err());
        assert!(!plan.is_missing());
    }

    #[test]
    fn nobody_enters_what_is_parked() {
        let mut plan = empty();
        assert!(plan.enter() && plan.enter());
        assert!(!plan.exit() && plan.exit());
        plan.end(Phase::Parked);
        assert!(!plan.enter() && plan.is_deserted());
    }
}
