//! Finds how many lanes a fill uses: it tries all of them at once, and keeps as many as brought more. Pure, counted in ticks.
//!
//! Trying one more at a time would take longer than most layers: a connection needs half a second to get up to its speed.

use std::time::Duration;

/// How often a fill is measured.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Ticks that are measured before a trial.
const BEFORE: u32 = 2;
/// Ticks that are left out after a change, while new connections get up to their speed, and that are measured then.
const SETTLE: u32 = 5;
const MEASURE: u32 = 3;
/// Ticks until the next trial.
const REST: u32 = 100;

/// The number of lanes of one fill.
#[derive(Debug)]
pub(crate) struct Parallelism {
    most: usize,
    lanes: usize,
    /// What was measured before the trial under way: how many lanes brought how many bytes a tick.
    before: Option<(usize, u64)>,
    wait: u32,
    ticks: u32,
    bytes: u64,
    rate: u64,
}

impl Parallelism {
    /// One lane, and at `most` so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.max(1), lanes: 1, before: None, wait: 0, ticks: 0, bytes: 0, rate: 0 }
    }

    /// How many there should be.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// What one lane brings, in bytes a second, as far as was measured.
    pub(crate) fn lane_rate(&self) -> u64 {
        let (lanes, rate) = self.before.unwrap_or((self.lanes, self.rate));
        rate.saturating_mul(10) / lanes as u64
    }

    /// A tick has passed, in which so many bytes landed.
    pub(crate) fn tick(&mut self, bytes: u64) {
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        self.ticks += 1;
        self.bytes += bytes;
        let enough = if self.before.is_some() { MEASURE } else { BEFORE };
        if self.ticks < enough {
            return;
        }
        self.rate = self.bytes / u64::from(enough);
        (self.ticks, self.bytes) = (0, 0);
        if let Some((lanes, rate)) = self.before.take() {
            self.lanes = kept(lanes, rate, self.rate, self.lanes);
            self.rate = if self.lanes == lanes { rate } else { self.rate };
            self.wait = REST;
        } else if self.lanes < self.most && self.rate > 0 {
            self.before = Some((self.lanes, self.rate));
            self.lanes = self.most;
            self.wait = SETTLE;
        }
    }

    /// The upstream refused a further lane: so many it is for now.
    pub(crate) fn hold(&mut self, lanes: usize) {
        self.lanes = lanes.clamp(1, self.most);
        self.before = None;
        self.wait = REST;
        (self.ticks, self.bytes) = (0, 0);
    }
}

/// How many of the `tried` lanes are worth keeping that brought `rate` where `lanes` had brought `before`. A gain
/// of less than 1.2 is noise, or the link is full; one of 1.9 can be had with twice as many lanes.
fn kept(lanes: usize, before: u64, rate: u64, tried: usize) -> usize {
    if rate.saturating_mul(5) < before.saturating_mul(6) {
        return lanes;
    }
    let worth = (lanes as u64).saturating_mul(rate).div_ceil(before.max(1));
    usize::try_from(worth).unwrap_or(tried).clamp(lanes.saturating_add(1).min(tried), tried)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(most: usize, ticks: usize, rate: impl Fn(usize) -> u64) -> usize {
        let mut parallelism = Parallelism::new(most);
        for _ in 0..ticks {
            parallelism.tick(rate(parallelism.lanes()));
        }
        parallelism.lanes()
    }

    #[test]
    fn lanes_are_added_while_they_gain() {
        assert_eq!(settled(4, 20, |lanes| 1000 * lanes as u64), 4, "each connection is slow");
        assert_eq!(settled(4, 20, |_| 1000), 1, "the link is full");
        assert_eq!(settled(8, 40, |lanes| 1000 * lanes.min(2) as u64), 2, "two fill it");
        assert_eq!(settled(8, 40, |lanes| 1000 * lanes.min(5) as u64), 5, "five do");
        assert_eq!(settled(1, 40, |lanes| 1000 * lanes as u64), 1);
        assert_eq!(settled(4, 40, |_| 0), 1, "nothing comes at all");
    }

    #[test]
    fn another_trial_comes_after_a_rest_and_a_vain_one_changes_nothing() {
        let mut parallelism = Parallelism::new(4);
        let mut most = 0;
        for tick in 0..1000 {
            parallelism.tick(if tick < 200 { 1000 } else { 1000 * parallelism.lanes() as u64 });
            most = most.max(parallelism.lanes());
            assert!([0, 10_000].contains(&parallelism.lane_rate()) || tick > 200, "while it is tried, too");
        }
        assert_eq!((most, parallelism.lanes()), (4, 4), "the link was full and is not any more");
    }

    #[test]
    fn a_refusal_holds_for_a_while() {
        let mut parallelism = Parallelism::new(4);
        (0..20).for_each(|_| parallelism.tick(1000 * parallelism.lanes() as u64));
        parallelism.hold(2);
        (0..REST).for_each(|_| parallelism.tick(2000));
        assert_eq!(parallelism.lanes(), 2);
        (0..20).for_each(|_| parallelism.tick(1000 * parallelism.lanes() as u64));
        assert_eq!(parallelism.lanes(), 4);
    }
}
