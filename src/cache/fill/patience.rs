//! How often an upstream that gains nothing is asked again, and after what pause.

use std::time::Duration;

use tokio::time::Instant;

/// How often in a row a source may fail without bringing a byte, before and after the first byte came.
const TRIES_AT_FIRST: u32 = 2;
const TRIES_LATER: u32 = 8;
/// Between two such tries; doubled each time up to the limit.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// Failures in a row, and when to try again.
#[derive(Debug, Default)]
pub(super) struct Patience {
    in_vain: u32,
    progress: u64,
    is_tried: bool,
    until: Option<Instant>,
}

impl Patience {
    /// A try failed, at a time when so many bytes had landed. Without a gain since the last one, it is waited.
    pub(super) fn failed(&mut self, progress: u64) {
        self.in_vain = if progress > self.progress { 0 } else { self.in_vain + 1 };
        self.progress = progress;
        self.is_tried = true;
        let pause = (PAUSE * 2_u32.saturating_pow(self.in_vain.saturating_sub(1))).min(PAUSE_LIMIT);
        self.until = (self.in_vain > 0).then(|| Instant::now() + pause);
    }

    /// A try brought what it was to bring.
    pub(super) fn gained(&mut self) {
        self.in_vain = 0;
        self.until = None;
    }

    /// Another source is asked from here on, at once.
    pub(super) fn another(&mut self) {
        self.gained();
    }

    /// Whether a try failed before.
    pub(super) fn is_tried(&self) -> bool {
        self.is_tried
    }

    /// How many tries in a row gained nothing.
    pub(super) fn in_vain(&self) -> u32 {
        self.in_vain
    }

    /// Whether it was tried often enough.
    pub(super) fn is_exhausted(&self, progress: u64) -> bool {
        self.in_vain >= if progress == 0 { TRIES_AT_FIRST } else { TRIES_LATER }
    }

    /// Whether the next try may be made now.
    pub(super) fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    /// When the next try may be made, if not now.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_failures_without_gain_are_waited_after() {
        let mut patience = Patience::default();
        patience.failed(10);
        assert!(patience.is_over(), "it had gained something");
        patience.failed(10);
        assert!(!patience.is_over());
        tokio::time::advance(PAUSE).await;
        assert!(patience.is_over());
        for _ in 1..TRIES_LATER {
            assert!(!patience.is_exhausted(10));
            patience.failed(10);
        }
        assert!(patience.is_exhausted(10));
        patience.failed(11);
        assert!(patience.is_over() && !patience.is_exhausted(11));
    }
}
