//! What has landed of a fill, who waits for what, and how it ended: pure, no I/O, no clock.
//!
//! The hold: a reader of the whole content gets its last byte only once the digest matched, so that no
//! client can take a wrong content for a finished one.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use super::Extents;
use crate::cache::Fault;
use crate::wire::Span;

/// One waiting reader's place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat(pub(super) u64);

/// How far a fill is.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Bytes are landing, or the digest is being computed.
    Filling,
    /// All is there and the digest matched.
    Verified,
    /// It failed for good.
    Broken(Fault),
}

/// The state that the lanes, the digest reader and all followers share.
#[derive(Debug)]
pub(super) struct Plan {
    total: Option<u64>,
    landed: Extents,
    waiting: BTreeMap<(u64, Seat), Waker>,
    phase: Phase,
}

/// A source contradicted what is known of the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream says {said} bytes where {known} were said before")]
pub(super) struct LengthChanged {
    known: u64,
    said: u64,
}

impl Plan {
    /// Nothing has landed.
    pub(super) fn new() -> Self {
        Self { total: None, landed: Extents::default(), waiting: BTreeMap::new(), phase: Phase::Filling }
    }

    /// The content's length in bytes, once it is known.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// How far it is.
    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// How many bytes have landed.
    pub(super) fn progress(&self) -> u64 {
        self.landed.count()
    }

    /// Learns the length; whoever waits for it is woken by the caller.
    pub(super) fn learn_total(&mut self, said: u64) -> Result<Vec<Waker>, LengthChanged> {
        match self.total {
            Some(known) if known != said => Err(LengthChanged { known, said }),
            _ if self.landed.first_hole().1.is_some_and(|next| next > said) || self.landed.end_from(0) > said => {
                Err(LengthChanged { known: self.landed.end_from(0), said })
            }
            _ => {
                self.total = Some(said);
                Ok(self.drain_waiting())
            }
        }
    }

    /// The first bytes that are missing: from where, and to where if that is known. `None` when all is there.
    pub(super) fn hole(&self) -> Option<(u64, Option<u64>)> {
        let (from, next) = self.landed.first_hole();
        let to = next.or(self.total);
        (to.is_none_or(|to| from < to)).then_some((from, to))
    }

    /// Up to where a reader at `at` may read now; `at` itself at the end of a verified content. Checks and
    /// registers under one borrow, so no landing is missed.
    pub(super) fn readable(&mut self, at: u64, hold: bool, seat: Seat, cx: &Context<'_>) -> Poll<Result<u64, Fault>> {
        let landed = self.landed.end_from(at);
        let free = match &self.phase {
            Phase::Broken(fault) => return Poll::Ready(Err(fault.clone())),
            Phase::Verified => return Poll::Ready(Ok(landed)),
            Phase::Filling if hold => self.held_end(landed),
            Phase::Filling => landed,
        };
        if free > at || (!hold && self.total == Some(at)) {
            return Poll::Ready(Ok(free.max(at)));
        }
        self.waiting.insert((at, seat), cx.waker().clone());
        Poll::Pending
    }

    /// Until the digest matched, the last byte is held; while the length is unknown, any byte may be the last.
    fn held_end(&self, landed: u64) -> u64 {
        match self.total {
            Some(total) => landed.min(total.saturating_sub(1)),
            None => landed.saturating_sub(1),
        }
    }

    /// Bytes are in the file. The wakers are to be woken after the lock is gone.
    pub(super) fn land(&mut self, span: Span) -> Vec<Waker> {
        self.landed.insert(span);
        let reach = self.landed.end_from(span.from);
        let first = (span.from.saturating_sub(1), Seat(0)); // a held reader waits one byte before the front
        let keys: Vec<_> = self.waiting.range(first..(reach, Seat(0))).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| self.waiting.remove(key)).collect()
    }

    /// A reader has left.
    pub(super) fn leave(&mut self, at: u64, seat: Seat) {
        self.waiting.remove(&(at, seat));
    }

    /// The fill ends; everybody is to be woken.
    pub(super) fn end(&mut self, phase: Phase) -> Vec<Waker> {
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
    use crate::cache::Retry;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn read(plan: &mut Plan, at: u64, hold: bool, count: &Arc<Count>) -> Option<Result<u64, String>> {
        let waker = Waker::from(count.clone());
        match plan.readable(at, hold, Seat(1), &Context::from_waker(&waker)) {
            Poll::Ready(result) => Some(result.map_err(|fault| fault.to_string())),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_reader_of_the_whole_waits_for_the_last_byte_until_the_digest_matched() {
        let (mut plan, count) = (Plan::new(), Arc::default());
        plan.learn_total(10).unwrap();
        plan.land(Span { from: 0, to: 10 });
        assert_eq!(read(&mut plan, 0, true, &count), Some(Ok(9)));
        assert_eq!(read(&mut plan, 9, true, &count), None);
        assert_eq!(read(&mut plan, 9, false, &count), Some(Ok(10)));
        plan.end(Phase::Verified).into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(read(&mut plan, 9, true, &count), Some(Ok(10)));
    }

    #[test]
    fn without_a_known_length_the_latest_byte_is_held() {
        let (mut plan, count) = (Plan::new(), Arc::default());
        plan.land(Span { from: 0, to: 4 });
        assert_eq!(read(&mut plan, 0, true, &count), Some(Ok(3)));
        assert_eq!(read(&mut plan, 3, true, &count), None);
        plan.land(Span { from: 4, to: 8 }).into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "a held reader wakes when the front moves");
        assert_eq!(read(&mut plan, 3, true, &count), Some(Ok(7)));
    }

    #[test]
    fn only_readers_within_what_landed_are_woken() {
        let (mut plan, near, far) = (Plan::new(), Arc::default(), Arc::default());
        plan.learn_total(100).unwrap();
        assert_eq!(read(&mut plan, 10, false, &near), None);
        assert_eq!(read(&mut plan, 50, false, &far), None);
        plan.land(Span { from: 0, to: 50 }).into_iter().for_each(Waker::wake);
        assert_eq!((near.0.load(Ordering::SeqCst), far.0.load(Ordering::SeqCst)), (1, 0));
    }

    #[test]
    fn a_broken_fill_breaks_every_reader() {
        let (mut plan, count) = (Plan::new(), Arc::default());
        plan.land(Span { from: 0, to: 4 });
        assert_eq!(read(&mut plan, 4, false, &count), None);
        plan.end(Phase::Broken(Fault::new(Retry::Never, std::io::Error::other("gone"))))
            .into_iter()
            .for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(read(&mut plan, 0, false, &count), Some(Err("gone".to_owned())));
    }

    #[test]
    fn a_length_that_changes_is_refused() {
        let mut plan = Plan::new();
        plan.land(Span { from: 0, to: 4 });
        assert!(plan.learn_total(3).is_err());
        assert!(plan.learn_total(4).is_ok());
        assert!(plan.learn_total(5).is_err());
        assert_eq!(plan.hole(), None);
    }

    #[test]
    fn the_first_hole_ends_where_the_next_extent_begins() {
        let mut plan = Plan::new();
        assert_eq!(plan.hole(), Some((0, None)));
        plan.learn_total(100).unwrap();
        plan.land(Span { from: 0, to: 10 });
        plan.land(Span { from: 50, to: 60 });
        assert_eq!(plan.hole(), Some((10, Some(50))));
    }
}
