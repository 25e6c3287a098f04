//! Says for how long the registry's earlier word holds, and how a reader stands by it.

use std::time::Duration;

use crate::cache::config::MISSING_FOR;
use crate::cache::{GrantsConfig, Lives};

/// How far the registry's earlier word goes for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// For how long.
    pub lives: Lives,
    /// How long the registry is waited for, before its earlier word stands in for it.
    pub deadline: Duration,
    /// How long it is believed that something is not there, where anybody may ask.
    pub missing_for: Duration,
    /// The registry is known to be away: its earlier word stands in at once.
    pub away: bool,
    /// The caller's token has expired: a no to it says nothing of the principal that obtained it.
    pub lapsed: bool,
    /// Anybody on the way to the registry may have spoken in its name: its word opens nothing at another one.
    pub forgeable: bool,
}

impl Default for Trust {
    /// As without any configuration, at a registry that is there.
    fn default() -> Self {
        Self {
            lives: GrantsConfig::default().lives(),
            deadline: Duration::from_secs(10),
            missing_for: MISSING_FOR,
            away: false,
            lapsed: false,
            forgeable: false,
        }
    }
}

/// How a reader stands at a place, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Permission {
    /// It has to prove that it may read.
    Unknown,
    /// It might read some time ago: enough while the registry cannot be asked.
    Lapsed,
    /// It may read.
    Good,
}

impl Permission {
    /// By a right that was `proven` so long ago, and that is believed for `longest` while the registry is away.
    pub(crate) fn of(proven: Option<Duration>, trust: &Trust, longest: Duration) -> Self {
        match proven {
            Some(age) if age < trust.lives.life || (trust.away && age < longest) => Self::Good,
            Some(age) if age < longest => Self::Lapsed,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_good_for_its_life_and_lapsed_until_it_is_forgotten() {
        let seconds = |count| Some(Duration::from_secs(count));
        let (life, longest) = (Duration::from_secs(600), Duration::from_secs(86_400));
        let there = Trust { lives: Lives { life, outage: longest }, ..Trust::default() };
        let away = Trust { away: true, ..there };
        let table = [
            (None, Permission::Unknown, Permission::Unknown),
            (seconds(0), Permission::Good, Permission::Good),
            (seconds(599), Permission::Good, Permission::Good),
            (seconds(600), Permission::Lapsed, Permission::Good),
            (seconds(86_399), Permission::Lapsed, Permission::Good),
            (seconds(86_400), Permission::Unknown, Permission::Unknown),
        ];
        for (proven, while_there, while_away) in table {
            assert_eq!(Permission::of(proven, &there, longest), while_there, "{proven:?}");
            assert_eq!(Permission::of(proven, &away, longest), while_away, "{proven:?}");
        }
    }
}
