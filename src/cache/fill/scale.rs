//! How many lanes a fill uses: another one is tried, and kept only if it brings more. Pure, counted in ticks.

use std::time::Duration;

/// How often a fill is measured.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Ticks that are left out after a change, and that are measured then.
const SETTLE: u32 = 2;
const MEASURE: u32 = 3;
/// Ticks until the next trial after one that gained nothing.
const REST: u32 = 100;

/// The number of lanes of one fill.
#[derive(Debug)]
pub(super) struct Scale {
    most: usize,
    lanes: usize,
    /// What was measured before the trial under way: how many lanes brought how many bytes a tick.
    before: Option<(usize, u64)>,
    wait: u32,
    ticks: u32,
    bytes: u64,
    rate: u64,
}

impl Scale {
    /// One lane, and at `most` so many.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), lanes: 1, before: None, wait: 0, ticks: 0, bytes: 0, rate: 0 }
    }

    /// How many there should be.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// What one lane brings, in bytes a second, as far as was measured.
    pub(super) fn lane_rate(&self) -> u64 {
        self.rate.saturating_mul(10) / self.lanes as u64
    }

    /// A tick has passed, in which so many bytes landed. A gain of 1.2 is kept: less is noise, or the link is full.
    pub(super) fn tick(&mut self, bytes: u64) {
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        self.ticks += 1;
        self.bytes += bytes;
        if self.ticks < MEASURE {
            return;
        }
        self.rate = self.bytes / u64::from(MEASURE);
        (self.ticks, self.bytes) = (0, 0);
        if let Some((lanes, rate)) = self.before.take()
            && self.rate.saturating_mul(5) < rate.saturating_mul(6)
        {
            self.rate = rate;
            self.lanes = lanes;
            self.wait = REST;
        } else if self.lanes < self.most && self.rate > 0 {
            self.before = Some((self.lanes, self.rate));
            self.lanes = (self.lanes * 2).min(self.most);
            self.wait = SETTLE;
        }
    }

    /// The upstream refused a further lane: so many it is for now.
    pub(super) fn hold(&mut self, lanes: usize) {
        self.lanes = lanes.clamp(1, self.most);
        self.before = None;
        self.wait = REST;
        (self.ticks, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(most: usize, ticks: usize, rate: impl Fn(usize) -> u64) -> usize {
        let mut scale = Scale::new(most);
        for _ in 0..ticks {
            scale.tick(rate(scale.lanes()));
        }
        scale.lanes()
    }

    #[test]
    fn lanes_are_added_while_they_gain() {
        assert_eq!(settled(4, 20, |lanes| 1000 * lanes as u64), 4, "each connection is slow");
        assert_eq!(settled(4, 20, |_| 1000), 1, "the link is full");
        assert_eq!(settled(8, 40, |lanes| 1000 * lanes.min(2) as u64), 2, "two fill it");
        assert_eq!(settled(1, 40, |lanes| 1000 * lanes as u64), 1);
        assert_eq!(settled(4, 40, |_| 0), 1, "nothing comes at all");
    }

    #[test]
    fn a_refusal_holds_for_a_while() {
        let mut scale = Scale::new(4);
        (0..20).for_each(|_| scale.tick(1000 * scale.lanes() as u64));
        scale.hold(2);
        (0..REST).for_each(|_| scale.tick(2000));
        assert_eq!(scale.lanes(), 2);
        (0..20).for_each(|_| scale.tick(1000 * scale.lanes() as u64));
        assert_eq!(scale.lanes(), 4);
    }
}
