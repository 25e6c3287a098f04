//! When a pull may fail: while the proxy is being restarted, and while a registry is away.
//!
//! A pull that fails outside of every window is a fault. One that fails in a window is tried again when it is over, and
//! must succeed then.

use std::sync::Mutex;
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
struct Window {
    what: &'static str,
    /// Whose pulls may fail; none means everybody's.
    registry: Option<&'static str>,
    from: Instant,
    /// None while it is open.
    to: Option<Instant>,
}

/// Every window so far.
#[derive(Default)]
pub(super) struct Windows(Mutex<Vec<Window>>);

/// An open window. Dropping it closes it.
pub(super) struct Open<'a> {
    windows: &'a Windows,
    index: usize,
    /// The window stays open for so long behind its cause.
    grace: Duration,
}

impl Windows {
    /// Opens one for the pulls from `registry`, or from all.
    pub(super) fn open(&self, what: &'static str, registry: Option<&'static str>) -> Open<'_> {
        let mut windows = self.0.lock().unwrap();
        windows.push(Window { what, registry, from: Instant::now(), to: None });
        Open { windows: self, index: windows.len() - 1, grace: Duration::ZERO }
    }

    /// Why a pull from `registry` that ran from then to then may have failed.
    pub(super) fn excuse(&self, registry: &str, from: Instant, to: Instant) -> Option<&'static str> {
        let windows = self.0.lock().unwrap();
        let touching = |window: &&Window| window.from <= to && window.to.is_none_or(|end| from <= end);
        let of_registry = |window: &&Window| window.registry.is_none_or(|name| name == registry);
        windows.iter().rev().filter(touching).find(of_registry).map(|window| window.what)
    }

    /// Whether any window is open now.
    pub(super) fn is_open(&self, registry: &str) -> bool {
        let now = Instant::now();
        self.excuse(registry, now, now).is_some()
    }

    /// Whether any window at all touched a moment.
    pub(super) fn touched(&self, at: Instant, around: Duration) -> bool {
        let windows = self.0.lock().unwrap();
        windows.iter().any(|window| {
            window.from.checked_sub(around).is_none_or(|from| from <= at)
                && window.to.is_none_or(|end| at <= end + around)
        })
    }
}

impl Open<'_> {
    /// Keeps the window open for so long after its cause is over: until a probe has found the registry back.
    pub(super) fn grace(&mut self, grace: Duration) {
        self.grace = grace;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.windows.0.lock().unwrap()[self.index].to = Some(Instant::now() + self.grace);
    }
}
