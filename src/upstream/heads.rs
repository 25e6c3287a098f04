//! Remembers which hosts refuse HEAD and serve GET, for each kind of content, so that they are asked by GET at once.
//!
//! A host whose HEAD never worked is believed at the first contradiction, and asked by HEAD again after a while, later each
//! time. Where HEAD worked lately, one contradiction may be chance (a push in between, a fault that passed): several in a
//! row count, since a GET costs a pull where pulls are counted. A status that speaks of the method counts at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::Backoff;
use crate::oci::Authority;

/// How long GET is asked at once after the first contradiction, and after many.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));
/// So long does one answer to HEAD speak for the next ones.
const WORKED_FOR: Duration = Duration::from_secs(600);
/// So many contradictions in a row outweigh a HEAD that worked lately.
const ENOUGH: u32 = 3;
/// How long a refusal that GET repeated, and that is about no content, is believed of HEAD alone.
const ALIKE_FOR: Duration = Duration::from_secs(60);
/// So many hosts are remembered at most: clients choose hosts, too.
const LIMIT: usize = 4096;

/// What a HEAD is for: many servers refuse it for some of these alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HeadKind {
    /// A manifest by tag.
    Tag,
    /// A manifest by digest.
    Manifest,
    Blob,
}

/// What hosts do with HEAD, as far as GET has shown it.
#[derive(Debug, Default)]
pub(crate) struct HeadMemory(Mutex<HashMap<(Authority, HeadKind), Habit>>);

/// What one host does for one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    worked: Option<Instant>,
    /// In a row.
    contradictions: u32,
    /// It is not asked by HEAD until then.
    refuses: Option<(Instant, Backoff)>,
    /// When GET last repeated what HEAD had said.
    alike: Option<Instant>,
}

impl HeadMemory {
    /// Whether HEAD is known to be refused there where GET is not.
    pub(crate) fn is_refused(&self, host: &Authority, kind: HeadKind) -> bool {
        let is_now = |habit: &Habit| habit.refuses.is_some_and(|(until, _)| Instant::now() < until);
        self.habits().get(&(host.clone(), kind)).is_some_and(is_now)
    }

    /// HEAD told what was asked.
    pub(crate) fn worked(&self, host: &Authority, kind: HeadKind) {
        self.change(host, kind, |habit| *habit = Habit { worked: Some(Instant::now()), ..Habit::default() });
    }

    /// GET delivered what HEAD had refused, or had not told. `by_rule`: what HEAD said is about the method, and no chance.
    pub(crate) fn contradicted(&self, host: &Authority, kind: HeadKind, by_rule: bool) {
        self.change(host, kind, |habit| {
            let now = Instant::now();
            habit.contradictions += 1;
            habit.alike = None;
            let worked = habit.worked.is_some_and(|worked| now.duration_since(worked) < WORKED_FOR);
            if worked && !by_rule && habit.contradictions < ENOUGH {
                return;
            }
            let backoff = match habit.refuses {
                Some((until, _)) if now < until => return, // of requests that were under way together
                Some((_, backoff)) => backoff.grown(),
                None => BACKOFF,
            };
            habit.refuses = Some((now + backoff.pause(), backoff));
        });
    }

    /// GET was refused in the same way: by a challenge, or a throttle.
    pub(crate) fn repeated(&self, host: &Authority, kind: HeadKind) {
        self.change(host, kind, |habit| habit.alike = Some(Instant::now()));
    }

    /// Whether a challenge, or a throttle, is believed of HEAD alone: GET said the same a moment ago.
    pub(crate) fn is_alike(&self, host: &Authority, kind: HeadKind) -> bool {
        let is_now = |habit: &Habit| habit.alike.is_some_and(|alike| alike.elapsed() < ALIKE_FOR);
        self.habits().get(&(host.clone(), kind)).is_some_and(is_now)
    }

    fn change(&self, host: &Authority, kind: HeadKind, change: impl FnOnce(&mut Habit)) {
        let mut habits = self.habits();
        let key = (host.clone(), kind);
        if habits.len() >= LIMIT && !habits.contains_key(&key) {
            habits.retain(|_, habit| habit.refuses.is_some_and(|(until, _)| Instant::now() < until));
            if habits.len() >= LIMIT {
                return;
            }
        }
        change(habits.entry(key).or_default());
    }

    fn habits(&self) -> MutexGuard<'_, HashMap<(Authority, HeadKind), Habit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Authority {
        Authority::parse(name, 443).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_head_is_tried_again_later_each_time_and_for_its_kind_alone() {
        let (heads, quay) = (HeadMemory::default(), host("quay.io"));
        for seconds in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            heads.contradicted(&quay, HeadKind::Blob, false);
            heads.contradicted(&quay, HeadKind::Blob, false);
            assert!(!heads.is_refused(&quay, HeadKind::Tag) && !heads.is_refused(&host("ghcr.io"), HeadKind::Blob));
            tokio::time::advance(Duration::from_secs(seconds - 1)).await;
            assert!(heads.is_refused(&quay, HeadKind::Blob), "{seconds}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!heads.is_refused(&quay, HeadKind::Blob), "{seconds}");
        }
        heads.worked(&quay, HeadKind::Blob);
        heads.contradicted(&quay, HeadKind::Blob, true);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!heads.is_refused(&quay, HeadKind::Blob), "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_worked_lately_is_not_given_up_for_one_fault() {
        let (heads, quay) = (HeadMemory::default(), host("quay.io"));
        for by_rule in [false, true] {
            heads.worked(&quay, HeadKind::Tag);
            heads.contradicted(&quay, HeadKind::Tag, by_rule);
            assert_eq!(heads.is_refused(&quay, HeadKind::Tag), by_rule);
        }
        heads.worked(&quay, HeadKind::Tag);
        (1..ENOUGH).for_each(|_| heads.contradicted(&quay, HeadKind::Tag, false));
        assert!(!heads.is_refused(&quay, HeadKind::Tag));
        heads.contradicted(&quay, HeadKind::Tag, false);
        assert!(heads.is_refused(&quay, HeadKind::Tag));
        heads.worked(&quay, HeadKind::Tag);
        tokio::time::advance(WORKED_FOR).await;
        heads.contradicted(&quay, HeadKind::Tag, false);
        assert!(heads.is_refused(&quay, HeadKind::Tag), "that was long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn what_get_repeated_is_believed_of_head_for_a_moment() {
        let (heads, quay) = (HeadMemory::default(), host("quay.io"));
        assert!(!heads.is_alike(&quay, HeadKind::Tag));
        heads.repeated(&quay, HeadKind::Tag);
        assert!(heads.is_alike(&quay, HeadKind::Tag) && !heads.is_alike(&quay, HeadKind::Blob));
        tokio::time::advance(ALIKE_FOR).await;
        assert!(!heads.is_alike(&quay, HeadKind::Tag));
        heads.repeated(&quay, HeadKind::Tag);
        heads.contradicted(&quay, HeadKind::Tag, false);
        assert!(!heads.is_alike(&quay, HeadKind::Tag));
    }

    #[tokio::test(start_paused = true)]
    async fn no_number_of_hosts_fills_the_memory() {
        let heads = HeadMemory::default();
        for number in 0..2 * LIMIT {
            heads.contradicted(&host(&format!("h{number}.test")), HeadKind::Tag, true);
        }
        assert_eq!(heads.habits().len(), LIMIT);
        tokio::time::advance(Duration::from_secs(3600)).await;
        heads.worked(&host("quay.io"), HeadKind::Tag);
        assert_eq!(heads.habits().len(), 1);
    }
}
