//! Says in the log that the CA ends soon, or has ended: clients then fail as if they did not trust it.

use std::sync::Weak;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::host::Period;
use crate::proxy::Proxy;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// So long before its end it is said each day.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Nothing,
    Soon(Duration),
    Over,
}

fn word(now: SystemTime, end: SystemTime) -> Word {
    match end.duration_since(now) {
        Ok(Duration::ZERO) | Err(_) => Word::Over,
        Ok(left) if left <= SOON => Word::Soon(left),
        Ok(_) => Word::Nothing,
    }
}

/// How long nothing new can be said: a day, or to the end of the CA if that is earlier.
fn pause(now: SystemTime, end: SystemTime) -> Duration {
    let left = end.duration_since(now).unwrap_or_default() + Duration::from_secs(1);
    if word(now, end) == Word::Over { DAY } else { left.min(DAY) }
}

/// Looks once a day, and when the CA ends, until the proxy stops.
pub(super) async fn watch(proxy: Weak<Proxy>, stop: CancellationToken) {
    loop {
        let Some(end) = proxy.upgrade().map(|proxy| proxy.policy().ca.expiry()) else { return };
        let now = SystemTime::now();
        match word(now, end) {
            Word::Nothing => {}
            Word::Soon(left) => warn!(
                left = %Period(Duration::from_secs(left.as_secs())),
                "the CA ends soon, and no client will accept this proxy then: see pullthrough ca show, and docs/trust.md for a new one"
            ),
            Word::Over => error!(
                "the CA has expired: no client accepts this proxy, each as if it did not trust it; see pullthrough ca show, and docs/trust.md for a new one"
            ),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause(now, end)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_ca_is_told_a_month_ahead_daily_and_at_once() {
        let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let table = [
            (now + 31 * DAY, Word::Nothing, DAY),
            (now + 30 * DAY, Word::Soon(30 * DAY), DAY),
            (now + DAY / 2, Word::Soon(DAY / 2), DAY / 2 + Duration::from_secs(1)),
            (now, Word::Over, DAY),
            (now - DAY, Word::Over, DAY),
        ];
        for (end, said, wait) in table {
            assert_eq!((word(now, end), pause(now, end)), (said, wait));
        }
    }
}
