//! Tells which tags are being written, so that no answer that was asked for before a write is believed after it.
//!
//! A write takes effect at some moment between its request and its answer; without an answer, perhaps later. Until then nobody
//! knows what the tag means: no answer about it is remembered, and none that is remembered is fresh. Exposure: clients can make a tag
//! unknown by writes that they cut off, each for [`DOUBT`]; then the registry is asked by every pull of it.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::rights::place::Place;
use crate::oci::Tag;

/// A write without an answer may take effect for so long: a gateway gives up before the registry behind it does.
const DOUBT: Duration = Duration::from_secs(120);
/// So many tags are in doubt at most; the earliest makes room.
const MOST_IN_DOUBT: usize = 4096;
/// So many writes are remembered. What was asked before the earliest of them may have been written since.
const RECENT: usize = 4096;

/// When something was asked about a tag: before, between or after which writes of it. Two are equal between the same ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Era {
    /// The last write of any tag.
    asked: u64,
    /// The last one of this tag, if it is remembered.
    last: u64,
    is_quiet: bool,
}

/// The writes of tags. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Writes(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// How many tags are in the table.
    busy: AtomicUsize,
    /// The number of the last write's beginning or end.
    last: AtomicU64,
}

#[derive(Default)]
struct Table {
    tags: HashMap<(Place, Tag), Unsettled>,
    /// When the first doubt ends.
    next_end: Option<Instant>,
    recent: Recent,
}

/// What was written last, by number.
#[derive(Default)]
struct Recent {
    last: HashMap<Written, u64>,
    in_order: VecDeque<(u64, Written)>,
    /// Up to this number they are forgotten.
    forgotten: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Written {
    Tag(Place, Tag),
    /// All tags of the place, perhaps.
    All(Place),
}

#[derive(Default)]
struct Unsettled {
    under_way: usize,
    /// More than one was under way at a time since none was: their order is unknown.
    is_overlapped: bool,
    doubt_ends: Option<Instant>,
}

/// A write of a tag that is under way. One that is dropped is in doubt.
pub(crate) struct UnderWay {
    writes: Writes,
    key: Option<(Place, Tag)>,
}

impl PartialEq for Era {
    fn eq(&self, other: &Self) -> bool {
        (self.last, self.is_quiet) == (other.last, other.is_quiet)
    }
}

impl Eq for Era {}

impl Hash for Era {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.last, self.is_quiet).hash(state);
    }
}

impl Writes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { table: Mutex::default(), busy: AtomicUsize::new(0), last: AtomicU64::new(0) }))
    }

    /// Now, as far as this tag is concerned.
    pub(crate) fn era(&self, place: &Place, tag: &Tag) -> Era {
        if self.0.last.load(Ordering::Acquire) == 0 {
            return Era { asked: 0, last: 0, is_quiet: true };
        }
        let mut table = self.lock();
        let is_quiet = self.is_quiet_in(&mut table, place, tag);
        let last = table.recent.of(place, tag).unwrap_or_default();
        Era { asked: self.0.last.load(Ordering::Acquire), last, is_quiet }
    }

    /// Whether what was asked in `era` still holds: no write was under way then, and none has begun since.
    pub(crate) fn is_still(&self, era: Era, place: &Place, tag: &Tag) -> bool {
        if !era.is_quiet || self.0.last.load(Ordering::Acquire) == era.asked {
            return era.is_quiet;
        }
        let mut table = self.lock();
        let is_written = table.recent.of(place, tag).is_some_and(|last| last > era.asked);
        !is_written && table.recent.forgotten <= era.asked && self.is_quiet_in(&mut table, place, tag)
    }

    /// Whether no write of the tag is under way, nor in doubt. A hit asks this: it takes no lock while nothing is written.
    pub(crate) fn is_quiet(&self, place: &Place, tag: &Tag) -> bool {
        self.0.busy.load(Ordering::Acquire) == 0 || self.is_quiet_in(&mut self.lock(), place, tag)
    }

    fn is_quiet_in(&self, table: &mut Table, place: &Place, tag: &Tag) -> bool {
        table.end_old_doubts();
        self.publish(table);
        !table.tags.contains_key(&(place.clone(), tag.clone()))
    }

    /// A write begins: from now on the tag is unknown.
    pub(crate) fn begin(&self, place: &Place, tag: &Tag) -> UnderWay {
        let key = (place.clone(), tag.clone());
        let mut table = self.lock();
        table.end_old_doubts();
        let unsettled = table.tags.entry(key.clone()).or_default();
        unsettled.is_overlapped |= unsettled.under_way > 0 || unsettled.doubt_ends.is_some();
        unsettled.under_way += 1;
        self.publish(&table);
        self.note(&mut table, Written::Tag(place.clone(), tag.clone()));
        UnderWay { writes: self.clone(), key: Some(key) }
    }

    /// The registry deleted a manifest of the place, and its tags.
    pub(crate) fn deleted(&self, place: &Place) {
        self.note(&mut self.lock(), Written::All(place.clone()));
    }

    fn note(&self, table: &mut Table, written: Written) {
        let number = self.0.last.fetch_add(1, Ordering::AcqRel) + 1;
        table.recent.note(number, written);
    }

    fn publish(&self, table: &Table) {
        self.0.busy.store(table.tags.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn note(&mut self, number: u64, written: Written) {
        self.in_order.push_back((number, written.clone()));
        self.last.insert(written, number);
        if self.in_order.len() > RECENT
            && let Some((earliest, written)) = self.in_order.pop_front()
        {
            self.forgotten = earliest;
            if self.last.get(&written) == Some(&earliest) {
                self.last.remove(&written);
            }
        }
    }

    /// The number of the last write of a tag.
    fn of(&self, place: &Place, tag: &Tag) -> Option<u64> {
        let tag = self.last.get(&Written::Tag(place.clone(), tag.clone()));
        tag.max(self.last.get(&Written::All(place.clone()))).copied()
    }
}

impl Table {
    fn end_old_doubts(&mut self) {
        let now = Instant::now();
        if self.next_end.is_some_and(|end| end <= now) {
            self.end_doubts(now);
        }
    }

    fn end_doubts(&mut self, now: Instant) {
        self.tags.retain(|_, unsettled| {
            unsettled.doubt_ends = unsettled.doubt_ends.filter(|end| *end > now);
            unsettled.under_way > 0 || unsettled.doubt_ends.is_some()
        });
        self.next_end = self.tags.values().filter_map(|unsettled| unsettled.doubt_ends).min();
    }

    fn doubt(&mut self, key: &(Place, Tag)) {
        let now = Instant::now();
        let in_doubt = self.tags.iter().filter(|(_, unsettled)| unsettled.doubt_ends.is_some());
        if in_doubt.clone().count() >= MOST_IN_DOUBT {
            let earliest = in_doubt.min_by_key(|(_, unsettled)| unsettled.doubt_ends).map(|(key, _)| key.clone());
            if let Some(unsettled) = earliest.as_ref().and_then(|earliest| self.tags.get_mut(earliest)) {
                unsettled.doubt_ends = None;
            }
            self.end_doubts(now);
        }
        if let Some(unsettled) = self.tags.get_mut(key) {
            unsettled.doubt_ends = Some(now + DOUBT);
            self.next_end.get_or_insert(now + DOUBT);
        }
    }
}

impl UnderWay {
    /// The write has been answered. Returns whether it was the only one since the tag was known, so that its order is known.
    pub(crate) fn end(mut self) -> bool {
        self.finish(false)
    }

    fn finish(&mut self, is_in_doubt: bool) -> bool {
        let Some(key) = self.key.take() else { return false };
        let mut table = self.writes.lock();
        if is_in_doubt {
            table.doubt(&key);
        }
        let mut is_alone = false;
        if let Some(unsettled) = table.tags.get_mut(&key) {
            is_alone = !unsettled.is_overlapped;
            unsettled.under_way = unsettled.under_way.saturating_sub(1);
            if unsettled.under_way == 0 && unsettled.doubt_ends.is_none() {
                table.tags.remove(&key);
            }
        }
        // Before the tag may be known again: what was asked meanwhile is of an earlier era.
        self.writes.note(&mut table, Written::Tag(key.0, key.1));
        self.writes.publish(&table);
        is_alone
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.finish(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { registry: "quay.io".into(), repository: "a".parse().unwrap() }
    }

    fn tag(name: &str) -> Tag {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_or_during_a_write_does_not_hold_after_it() {
        let (writes, place, one) = (Writes::new(), place(), tag("1"));
        let before = writes.era(&place, &one);
        assert!(writes.is_still(before, &place, &one));
        let write = writes.begin(&place, &one);
        let during = writes.era(&place, &one);
        assert!(!writes.is_quiet(&place, &one) && writes.is_quiet(&place, &tag("2")));
        assert!(write.end(), "it was alone");
        let after = writes.era(&place, &one);
        assert_eq!([before, during, after].map(|era| writes.is_still(era, &place, &one)), [false, false, true]);
        writes.deleted(&place);
        assert!(!writes.is_still(after, &place, &one));
    }

    #[test]
    fn writes_of_other_tags_say_nothing_until_too_many_are_to_be_remembered() {
        let (writes, place, one) = (Writes::new(), place(), tag("1"));
        let (asked, began) = (writes.era(&place, &one), writes.begin(&place, &tag("0")));
        assert!(began.end() && writes.is_still(asked, &place, &one) && writes.era(&place, &one) == asked);
        let others = (0..RECENT / 2).map(|number| tag(&format!("other-{number}")));
        others.for_each(|other| assert!(writes.begin(&place, &other).end()));
        assert!(!writes.is_still(asked, &place, &one), "the earliest are forgotten");
        let table = writes.lock();
        assert_eq!((table.recent.in_order.len(), table.recent.last.len()), (RECENT, RECENT / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn writes_that_overlap_are_in_no_order_and_one_without_an_answer_is_in_doubt_for_a_while() {
        let (writes, place, one) = (Writes::new(), place(), tag("1"));
        let (first, second) = (writes.begin(&place, &one), writes.begin(&place, &one));
        assert!(!first.end() && !writes.is_quiet(&place, &one));
        assert!(!second.end() && writes.is_quiet(&place, &one));
        assert!(writes.begin(&place, &one).end(), "the next one is alone");
        drop(writes.begin(&place, &one));
        tokio::time::advance(DOUBT - Duration::from_secs(1)).await;
        assert!(!writes.begin(&place, &one).end(), "the one before may take effect after it");
        assert!(!writes.is_quiet(&place, &one));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(writes.is_quiet(&place, &one) && writes.begin(&place, &one).end());
        assert_eq!(writes.0.busy.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn few_tags_are_in_doubt_whoever_writes() {
        let (writes, place) = (Writes::new(), place());
        for number in 0..MOST_IN_DOUBT + 10 {
            drop(writes.begin(&place, &tag(&number.to_string())));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(writes.0.busy.load(Ordering::SeqCst), MOST_IN_DOUBT);
        assert!(writes.is_quiet(&place, &tag("9")) && !writes.is_quiet(&place, &tag("10")));
    }
}
