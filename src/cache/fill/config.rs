//! The `fill:` section of the configuration: how blobs are fetched into the cache.

use serde::Deserialize;

use crate::host::{Percent, Size};

/// The `fill:` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FillConfig {
    /// A blob of this length or more may be fetched by several ranges at a time. Default: 32 MiB.
    pub parallel_from: Size,
    /// The most ranges of one blob at a time; as many of them are used as make it faster. Default: 4.
    pub lanes: u16,
    /// A fill that nobody waits for goes on if more than this part of it has landed. Default: 50%.
    pub finish_share: Percent,
    /// It goes on, too, if less than this is missing. Default: 256 MiB.
    pub finish_rest: Size,
}

impl Default for FillConfig {
    fn default() -> Self {
        Self { parallel_from: Size(32 << 20), lanes: 4, finish_share: Percent(50), finish_rest: Size(256 << 20) }
    }
}

impl FillConfig {
    /// Whether a fill goes on for nobody, of whose `total` bytes so many have `landed`.
    #[must_use]
    pub fn finishes(&self, landed: u64, total: u64) -> bool {
        let missing = total.saturating_sub(landed);
        missing < self.finish_rest.0 || u128::from(landed) * 100 > u128::from(total) * u128::from(self.finish_share.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_goes_on_for_nobody_when_little_is_missing_or_much_is_there() {
        const GIB: u64 = 1 << 30;
        let config = FillConfig::default();
        let table = [
            (0, GIB / 4, false),
            (1, GIB / 4, true),
            (0, GIB, false),
            (GIB / 2, GIB, false),
            (GIB / 2 + 1, GIB, true),
            (9 * GIB, 16 * GIB, true),
            (7 * GIB, 16 * GIB, false),
        ];
        for (landed, total, expected) in table {
            assert_eq!(config.finishes(landed, total), expected, "{landed} of {total}");
        }
    }
}
