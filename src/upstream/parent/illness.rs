//! Whether a parent is ill: passed over for a while, longer after each failure, then tried by one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(120);
/// Whoever tries it again has so long to say how that went, before another one tries.
const TRIAL: Duration = Duration::from_secs(10);

/// What is known of one parent.
#[derive(Debug, Default)]
pub(super) struct Illness(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    well: Option<Instant>,
    ill: Option<Ill>,
}

#[derive(Clone, Copy, Debug)]
struct Ill {
    until: Instant,
    length: Duration,
    on_trial: bool,
}

impl Illness {
    /// Whether it may be tried before the others. Of those who ask after an illness's time, the first is told so, and
    /// the others wait for what it finds out.
    pub(super) fn is_passed_over(&self) -> bool {
        let now = Instant::now();
        match &mut self.state().ill {
            None => false,
            Some(ill) if ill.until > now => true,
            Some(ill) => {
                *ill = Ill { until: now + TRIAL, on_trial: true, ..*ill };
                false
            }
        }
    }

    /// It answered. Says whether it was ill before.
    pub(super) fn note_well(&self) -> bool {
        let mut state = self.state();
        state.well = Some(Instant::now());
        state.ill.take().is_some()
    }

    /// It cannot be used. Failures of connections that were under way together are one failure. Says whether this is
    /// news.
    pub(super) fn note_ill(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let length = match state.ill {
            Some(Ill { until, on_trial: false, .. }) if until > now => return false,
            Some(Ill { length, .. }) => (length * 2).min(LONGEST),
            None => FIRST,
        };
        let is_news = state.ill.is_none();
        state.ill = Some(Ill { until: now + length, length, on_trial: false });
        is_news
    }

    /// It gave no answer to what was asked at `begun`, which may be the fault of the host that was asked for: it is ill
    /// if it has not answered anybody since.
    pub(super) fn note_silence(&self, begun: Instant) -> bool {
        let answered = self.state().well.is_some_and(|well| well >= begun);
        !answered && self.note_ill()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_ill_parent_is_passed_over_and_then_tried_by_one() {
        let illness = Illness::default();
        assert!(!illness.is_passed_over());
        for seconds in [10, 20, 40, 80, 120, 120] {
            illness.note_ill();
            illness.note_ill();
            tokio::time::advance(Duration::from_secs(seconds - 1)).await;
            assert!(illness.is_passed_over(), "{seconds}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!illness.is_passed_over(), "{seconds}");
            assert!(illness.is_passed_over(), "the first one tries it alone");
        }
        assert!(illness.note_well());
        assert!(!illness.is_passed_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_nobody_ends_is_followed_by_another() {
        let illness = Illness::default();
        illness.note_ill();
        tokio::time::advance(FIRST).await;
        assert!(!illness.is_passed_over());
        tokio::time::advance(TRIAL).await;
        assert!(!illness.is_passed_over());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_about_one_host_is_no_illness_of_a_parent_that_answers_others() {
        let illness = Illness::default();
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        illness.note_well();
        assert!(!illness.note_silence(begun) && !illness.is_passed_over());
        assert!(illness.note_silence(Instant::now() + Duration::from_secs(1)) && illness.is_passed_over());
    }
}
