//! What the service manager is told: ready, reloading, stopping, alive (sd_notify(3)).
//!
//! Without `NOTIFY_SOCKET` all of it does nothing. A manager that cannot be told is no reason to stop serving.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The service is up; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it. With the time, as `Type=notify-reload` demands.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "the clock could not be read"),
    }
}

/// The service ends now; `status` says how far it is.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// It was looked and found that the service works.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] must be said at least, if a watchdog waits for it.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager could not be told");
    }
}
