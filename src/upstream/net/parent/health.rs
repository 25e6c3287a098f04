//! The health of a parent: one that fails is skipped for a while, longer after each failure, then tried by one request.
//!
//! Its silence about one host may be that host's fault: then it is passed over for that host. Silent about two, and
//! answering nobody meanwhile, it is failing itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::Backoff;
use crate::oci::Authority;

const FIRST: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff::new(FIRST, Duration::from_secs(120));
/// A connection that tries it again has so long to tell the outcome, before another one tries.
const TRIAL: Duration = Duration::from_secs(10);
/// So many hosts that it was silent about are remembered: clients choose them.
const HOSTS: usize = 1000;

/// What is known of one parent.
#[derive(Debug, Default)]
pub(crate) struct ParentHealth(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    well: Option<Instant>,
    failing: Option<Failing>,
    silent: HashMap<Authority, Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    noted: Instant,
    until: Instant,
    backoff: Backoff,
    on_trial: bool,
}

impl Failing {
    /// After another failure. Those of connections that were under way together are one: `None`.
    fn after(earlier: Option<Self>) -> Option<Self> {
        let now = Instant::now();
        let backoff = match earlier {
            Some(Self { until, on_trial: false, .. }) if until > now => return None,
            Some(Self { backoff, .. }) => backoff.grown(),
            None => BACKOFF,
        };
        Some(Self { noted: now, until: now + backoff.pause(), backoff, on_trial: false })
    }

    /// Somebody tries whether it is over; the others wait for what that finds out.
    fn try_now(&mut self) {
        *self = Self { until: Instant::now() + TRIAL, on_trial: true, ..*self };
    }
}

impl ParentHealth {
    /// Whether others are to be tried before it, on the way to this host. Of those who ask after a pause, the
    /// first is told so.
    pub(crate) fn is_passed_over(&self, to: &Authority) -> bool {
        let (now, mut state) = (Instant::now(), self.state());
        let State { failing, silent, .. } = &mut *state;
        let mut both: Vec<&mut Failing> = failing.iter_mut().chain(silent.get_mut(to)).collect();
        let goes_on = both.iter().any(|failing| failing.until > now);
        if !goes_on {
            both.iter_mut().for_each(|failing| failing.try_now());
        }
        goes_on
    }

    /// It answered about this host. Says whether it was failing before.
    pub(crate) fn note_well(&self, to: &Authority) -> bool {
        let mut state = self.state();
        state.well = Some(Instant::now());
        state.silent.remove(to);
        let was_failing = state.failing.take().is_some();
        if was_failing {
            state.silent.clear(); // it was silent about all of them by itself
        }
        was_failing
    }

    /// It cannot be used. Says whether this is news.
    pub(crate) fn note_ill(&self) -> bool {
        self.state().note_ill()
    }

    /// It could not be reached by one who began to try at `begun` and left. Says whether it is known to be failing since.
    pub(crate) fn note_unreached(&self, begun: Instant) -> bool {
        let mut state = self.state();
        state.well.is_none_or(|well| well < begun) && state.note_ill()
    }

    /// It gave no answer to what was asked of this host at `begun`. Says whether it is known to be failing since.
    pub(crate) fn note_silence(&self, to: &Authority, begun: Instant) -> bool {
        let mut state = self.state();
        state.note_silence(to);
        let well = state.well;
        let since = |failing: &Failing| well.is_none_or(|well| well < failing.noted);
        let answers = well.is_some_and(|well| well >= begun);
        let is_silent_elsewhere = state.silent.iter().any(|(host, failing)| host != to && since(failing));
        !answers && is_silent_elsewhere && state.note_ill()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note_ill(&mut self) -> bool {
        let is_news = self.failing.is_none();
        let Some(failing) = Failing::after(self.failing) else { return false };
        self.failing = Some(failing);
        is_news
    }

    fn note_silence(&mut self, to: &Authority) {
        let now = Instant::now();
        if let Some(earlier) = self.silent.get_mut(to) {
            *earlier = Failing { noted: now, ..Failing::after(Some(*earlier)).unwrap_or(*earlier) };
            return;
        }
        if self.silent.len() >= HOSTS {
            self.silent.retain(|_, failing| failing.until > now);
        }
        if self.silent.len() < HOSTS
            && let Some(failing) = Failing::after(None)
        {
            self.silent.insert(to.clone(), failing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Authority {
        Authority::parse(name, 443).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_ill_parent_is_passed_over_and_then_tried_by_one() {
        let (health, to) = (ParentHealth::default(), host("quay.io"));
        assert!(!health.is_passed_over(&to));
        for seconds in [10, 20, 40, 80, 120, 120] {
            health.note_ill();
            health.note_ill();
            tokio::time::advance(Duration::from_secs(seconds - 1)).await;
            assert!(health.is_passed_over(&to), "{seconds}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!health.is_passed_over(&to), "{seconds}");
            assert!(health.is_passed_over(&host("ghcr.io")), "the first one tries it alone");
        }
        assert!(health.note_well(&to));
        assert!(!health.is_passed_over(&to));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_nobody_ends_is_followed_by_another() {
        let (health, to) = (ParentHealth::default(), host("quay.io"));
        health.note_ill();
        tokio::time::advance(FIRST).await;
        assert!(!health.is_passed_over(&to));
        tokio::time::advance(TRIAL).await;
        assert!(!health.is_passed_over(&to));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_about_one_host_is_for_that_host_alone() {
        let (health, dead, other) = (ParentHealth::default(), host("dead.test"), host("quay.io"));
        for seconds in [10, 20] {
            assert!(!health.note_silence(&dead, Instant::now()));
            assert!(health.is_passed_over(&dead) && !health.is_passed_over(&other));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(!health.is_passed_over(&dead) && health.is_passed_over(&dead), "one tries it");
        }
        health.note_well(&dead);
        assert!(!health.is_passed_over(&dead));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_about_two_is_its_own_unless_it_answers_others() {
        let (health, one, two) = (ParentHealth::default(), host("one.test"), host("two.test"));
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        health.note_silence(&one, begun);
        health.note_well(&host("quay.io"));
        assert!(!health.note_silence(&two, begun), "it has answered since");
        tokio::time::advance(Duration::from_secs(1)).await;
        let begun = Instant::now();
        assert!(!health.note_silence(&one, begun) && !health.is_passed_over(&host("quay.io")));
        assert!(health.note_silence(&two, begun), "news");
        assert!(health.is_passed_over(&host("quay.io")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_parent_that_is_back_is_back_for_all_hosts() {
        let (health, one, two) = (ParentHealth::default(), host("one.test"), host("two.test"));
        let begun = Instant::now();
        health.note_silence(&one, begun);
        assert!(health.note_silence(&two, begun));
        assert!(health.note_well(&host("quay.io")));
        assert!(!health.is_passed_over(&one) && !health.is_passed_over(&two));
    }

    #[tokio::test(start_paused = true)]
    async fn who_left_before_it_was_reached_blames_it_and_no_host() {
        let (health, to) = (ParentHealth::default(), host("quay.io"));
        let begun = Instant::now();
        health.note_well(&to);
        assert!(!health.note_unreached(begun), "it has answered since");
        tokio::time::advance(FIRST).await;
        assert!(health.note_unreached(Instant::now()) && health.is_passed_over(&host("ghcr.io")));
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_clients_invent_are_not_remembered_without_end() {
        let health = ParentHealth::default();
        health.note_well(&host("quay.io"));
        let begun = Instant::now();
        for number in 0..HOSTS + 10 {
            health.note_silence(&host(&format!("h{number}.test")), begun);
        }
        assert_eq!(health.state().silent.len(), HOSTS);
        tokio::time::advance(FIRST).await;
        health.note_silence(&host("last.test"), Instant::now());
        assert_eq!(health.state().silent.len(), 1);
    }
}
