//! Computes the heat of a blob: how much it is used, as one number in its row that can be compared at any time.

/// The time until a use counts half, in microseconds. In the simulation half of it or twice as much is worse: too short
/// forgets the hot set over a weekend, too long keeps the layers of tags that have moved on.
pub(crate) const HALF_LIFE: f64 = 12.0 * 3600e6;
/// Uses closer together than this count as parts of one, in microseconds: a client that reads a layer by a hundred
/// ranges, or a deployment to a hundred nodes, is not a hundred pulls.
const ONE_PULL: f64 = 60e6;
/// The heat of one use at `at` (microseconds since 1970). Heat is the binary logarithm of the uses, each of which
/// doubles in weight every half-life since 1970 instead of halving since it happened: so it never needs updating.
pub(crate) fn heat(at: i64) -> f64 {
    at as f64 / HALF_LIFE
}

/// The heat after one more use at `at`, when the previous one was at `last`.
pub(crate) fn heated(before: f64, last: i64, at: i64) -> f64 {
    let share = (at.saturating_sub(last) as f64 / ONE_PULL).clamp(0.0, 1.0);
    let most = before.max(heat(at));
    most + ((before - most).exp2() + share * (heat(at) - most).exp2()).log2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 3600 * 1_000_000;

    proptest! {
        #[test]
        fn a_use_never_cools_and_one_that_is_parts_counts_once(
            uses in prop::collection::vec(0..10 * DAY, 1..50),
        ) {
            let (mut now, mut warm) = (1_700_000_000_000_000_i64, heat(1_700_000_000_000_000));
            for pause in uses {
                let next = heated(warm, now, now + pause);
                prop_assert!(next >= warm && next >= heat(now), "{} {}", next, warm);
                now += pause;
                warm = next;
            }
            let by_parts = (1..=100).fold(warm, |warm, part| heated(warm, now + (part - 1) * 600_000, now + part * 600_000));
            let at_once = heated(warm, now, now + 60_000_000);
            prop_assert!((by_parts - at_once).abs() < 0.01, "{} {}", by_parts, at_once);
        }
    }

    #[test]
    fn a_hundred_uses_before_the_weekend_outlive_one_today() {
        let now = 1_700_000_000_000_000;
        let then = now - 5 * DAY / 2;
        let hot = (1..100).fold(heat(then), |warm, n| heated(warm, then + (n - 1) * 60_000_000, then + n * 60_000_000));
        assert!(hot > heat(now) + 1.0);
        assert!(hot < heat(now + 2 * DAY), "but not one two days later");
    }
}
