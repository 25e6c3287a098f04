//! Notifies the service manager: ready, reloading, stopping, alive (sd_notify(3)).
//!
//! Without `NOTIFY_SOCKET` nothing is sent. A failed notification does not stop the service.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The service is ready; `systemctl status` shows `status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it. With the time, as `Type=notify-reload` demands.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "cannot read the clock"),
    }
}

/// The service is stopping, which may take `most`, even where the manager would wait for less (`TimeoutStopSec=`);
/// `status` says how far it is.
pub fn stopping(status: &str, most: Duration) {
    let most = u32::try_from(most.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(most)]);
}

/// A check has found that the service works.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The longest time between two calls of [`alive`], if a watchdog waits for them.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "cannot notify the service manager");
    }
}
