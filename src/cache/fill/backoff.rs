//! Decides how often a source that brings nothing is asked again, and after what pause.
//!
//! Threat: an upstream that answers, whatever it answers, and brings nothing, or next to nothing. Defence: what counts
//! is the bytes that landed. A try that brings none is in vain; one that breaks off after a few costs credit, which only
//! bytes earn, and is in vain once there is none. Tries in vain are paused after, ever longer, and are limited in a row
//! and for a fill as a whole. An upstream that asks to be left alone for a while is, within bounds.

use std::time::Duration;

use tokio::time::Instant;

use crate::host::Backoff;

/// How often in a row a source may fail in vain, before and after the first byte came.
const TRIES_AT_FIRST: u32 = 2;
const TRIES_LATER: u32 = 8;
/// How often all sources of a fill together may.
const TRIES_IN_ALL: u32 = 3 * TRIES_LATER;
/// Between two such tries.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// After a throttle that does not say how long it lasts.
const THROTTLED: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The longest that is waited because an upstream asks for it: its readers wait along.
const LONGEST: Duration = Duration::from_secs(60);
/// So many bytes pay for one try that breaks off, and so many such tries are paid for at first, and at most.
const PRICE: u64 = 16 << 10;
const CREDIT: u64 = 16;

/// Tries in vain, and when to try again.
#[derive(Debug)]
pub(crate) struct Retries {
    in_vain: u32,
    in_all: u32,
    credit: u64,
    is_tried: bool,
    until: Option<Instant>,
}

/// What an upstream that failed asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plea {
    /// It throttles.
    pub(crate) is_throttle: bool,
    /// To be left alone for so long.
    pub(crate) retry_after: Option<Duration>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { in_vain: 0, in_all: 0, credit: CREDIT, is_tried: false, until: None }
    }
}

impl Retries {
    /// A try broke off, or ended before it had brought all that it was to bring, after so many bytes.
    pub(crate) fn broke_off(&mut self, brought: u64, plea: Plea) {
        self.is_tried = true;
        let credit = self.credit.saturating_add(brought / PRICE).min(CREDIT);
        self.credit = credit.saturating_sub(1);
        if brought > 0 && credit > 0 {
            self.gained();
            return;
        }
        self.in_vain += 1;
        self.in_all += 1;
        let pauses = if plea.is_throttle { THROTTLED } else { PAUSES };
        let told = plea.retry_after.unwrap_or_default().min(LONGEST);
        self.until = Some(Instant::now() + pauses.nth(self.in_vain.saturating_sub(1)).max(told));
    }

    /// A try brought what it was to bring: nothing, if another took its bytes on.
    pub(crate) fn finished(&mut self, brought: u64) {
        if brought > 0 {
            self.credit = self.credit.saturating_add(brought / PRICE).min(CREDIT);
            self.gained();
        }
    }

    /// Another source is asked from here on, at once.
    pub(crate) fn another(&mut self) {
        self.gained();
    }

    fn gained(&mut self) {
        self.in_vain = 0;
        self.until = None;
    }

    /// Whether a try failed before.
    pub(crate) fn is_tried(&self) -> bool {
        self.is_tried
    }

    /// How many tries in a row gained nothing.
    pub(crate) fn in_vain(&self) -> u32 {
        self.in_vain
    }

    /// Whether this source was tried often enough; so many bytes of the content are there.
    pub(crate) fn is_exhausted(&self, progress: u64) -> bool {
        self.in_vain >= if progress == 0 { TRIES_AT_FIRST } else { TRIES_LATER }
    }

    /// Whether all sources together were.
    pub(crate) fn is_over_for_all(&self) -> bool {
        self.in_all >= TRIES_IN_ALL
    }

    /// Whether the next try may be made now.
    pub(crate) fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    /// When the next try may be made, if not now.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_tries_in_vain_are_waited_after_ever_longer() {
        let mut retries = Retries::default();
        retries.broke_off(PRICE, Plea::default());
        assert!(retries.is_over(), "it had gained something");
        let mut pauses = Vec::new();
        while !retries.is_exhausted(1) {
            retries.broke_off(0, Plea::default());
            let until = retries.until().unwrap();
            pauses.push((until - Instant::now()).as_millis());
            tokio::time::sleep_until(until).await;
            assert!(retries.is_over());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        retries.broke_off(PRICE, Plea::default());
        assert!(retries.is_over() && !retries.is_exhausted(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_is_left_alone_for_as_long_as_it_asks_within_bounds() {
        let (throttle, told) = (|told| (true, told), |seconds| Some(Duration::from_secs(seconds)));
        // What each of the tries says, and the pauses after them in seconds.
        let table = [
            (throttle(None), [1, 2, 4, 8, 16, 30, 30, 30]),
            (throttle(told(0)), [1, 2, 4, 8, 16, 30, 30, 30]),
            (throttle(told(5)), [5, 5, 5, 8, 16, 30, 30, 30]),
            (throttle(told(3600)), [60; 8]),
            ((false, told(7)), [7; 8]),
            ((false, told(u64::MAX)), [60; 8]),
        ];
        for ((is_throttle, retry_after), expected) in table {
            let (mut retries, mut pauses) = (Retries::default(), Vec::new());
            while !retries.is_exhausted(1) {
                retries.broke_off(0, Plea { is_throttle, retry_after });
                let until = retries.until().unwrap();
                pauses.push((until - Instant::now()).as_secs());
                tokio::time::sleep_until(until).await;
            }
            assert_eq!(pauses, expected, "{is_throttle} {retry_after:?}");
        }
    }

    #[test]
    fn next_to_nothing_counts_as_nothing_after_a_while_and_bytes_pay_for_more() {
        let tries = |brought: u64| {
            let mut retries = Retries::default();
            (1..1000).find(|_| {
                retries.broke_off(brought, Plea::default());
                retries.is_exhausted(1)
            })
        };
        assert_eq!(tries(0), Some(TRIES_LATER));
        assert_eq!(tries(1), Some(CREDIT as u32 + TRIES_LATER));
        assert_eq!(tries(PRICE - 1), Some(CREDIT as u32 + TRIES_LATER));
        assert_eq!(tries(PRICE), None, "such an upstream is slow, and brings what it is asked for");
    }

    #[test]
    fn one_byte_now_and_then_keeps_no_fill_alive() {
        let mut retries = Retries::default();
        let tried = (1..1000).find(|number| {
            retries.broke_off(u64::from(number % 4 == 0), Plea::default());
            if retries.is_exhausted(1) {
                retries.another(); // the next caller's source is as bad
            }
            retries.is_over_for_all()
        });
        assert!(tried.is_some_and(|tried| tried <= TRIES_IN_ALL + CREDIT as u32), "{tried:?}");
    }
}
