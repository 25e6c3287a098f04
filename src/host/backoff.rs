//! Pauses that double after each failure, up to a limit.

use std::time::Duration;

/// The pause before the next try: the first one, then twice the last one, up to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    grown: u32,
}

impl Backoff {
    /// Begins with `first`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, grown: 0 }
    }

    /// The pause as it is now.
    #[must_use]
    pub fn pause(self) -> Duration {
        self.nth(self.grown)
    }

    /// The pause after it has doubled `times` from the first one.
    #[must_use]
    pub fn nth(self, times: u32) -> Duration {
        self.first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(self.longest)
    }

    /// Doubles the pause.
    pub fn grow(&mut self) {
        self.grown = self.grown.saturating_add(1);
    }

    /// The same with the doubled pause.
    #[must_use]
    pub fn grown(mut self) -> Self {
        self.grow();
        self
    }

    /// Goes back to the first pause.
    pub fn reset(&mut self) {
        self.grown = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_pause_doubles_up_to_the_longest_and_begins_anew_after_a_success() {
        let mut backoff = Backoff::new(SECOND, 30 * SECOND);
        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                let pause = backoff.pause().as_secs();
                backoff.grow();
                pause
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.pause(), SECOND);
    }

    #[test]
    fn no_number_of_failures_overflows_it() {
        let backoff = Backoff::new(Duration::from_millis(1), Duration::MAX);
        let table = [(0, 1), (1, 2), (31, 1 << 31), (32, u64::from(u32::MAX)), (u32::MAX, u64::from(u32::MAX))];
        for (times, expected) in table {
            assert_eq!(backoff.nth(times), Duration::from_millis(expected), "{times}");
        }
        let mut last = Backoff { grown: u32::MAX, ..Backoff::new(SECOND, 5 * SECOND) };
        last.grow();
        assert_eq!(last.pause(), 5 * SECOND);
        assert_eq!(Backoff::new(Duration::MAX, Duration::MAX).nth(3), Duration::MAX);
    }
}
