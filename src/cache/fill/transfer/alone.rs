//! Measures whether a fill that nobody waits for still brings enough to be worth its connection.
//!
//! Threat: an upstream that sends a byte now and then, for ever, to a fill whose reader has left. Before the first byte
//! there is no such measure: a registry that fetches before it serves takes minutes, and its client comes back.

use std::time::Duration;

use tokio::time::Instant;

/// So many bytes have to land in so long.
const LEAST: u64 = 256 << 10;
const WINDOW: Duration = Duration::from_secs(60);

/// When it was looked at last, and what had landed then. `None` while somebody waits.
#[derive(Debug, Default)]
pub(crate) struct Alone(Option<(Instant, u64)>);

impl Alone {
    /// Looks again, now that so many bytes have landed.
    pub(crate) fn is_too_slow(&mut self, is_alone: bool, landed: u64) -> bool {
        let now = Instant::now();
        let (since, then) = *self.0.get_or_insert((now, landed));
        if !is_alone {
            self.0 = None;
        } else if now >= since + WINDOW {
            self.0 = Some((now, landed));
            return landed > 0 && landed - then < LEAST;
        }
        false
    }

    /// When to look again.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.0.map(|(since, _)| since + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_nobody_waits_for_has_to_bring_something() {
        let mut alone = Alone::default();
        // Whether it is alone, what has landed a window later, and whether it is too slow.
        let table = [
            (true, 0, false), // the first look
            (true, 0, false), // nothing yet: it may take minutes
            (true, LEAST, false),
            (true, 2 * LEAST, false),
            (true, 3 * LEAST - 1, true),
            (false, 3 * LEAST - 1, false), // somebody came
            (true, 3 * LEAST - 1, false),
            (true, 3 * LEAST, true),
        ];
        for (number, (is_alone, landed, expected)) in table.into_iter().enumerate() {
            assert_eq!(alone.is_too_slow(is_alone, landed), expected, "{number}");
            if let Some(until) = alone.until() {
                tokio::time::sleep_until(until).await;
            }
        }
    }
}
