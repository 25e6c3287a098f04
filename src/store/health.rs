//! Keeps what is wrong with the disk, from the first step that fails until a probe succeeds.
//!
//! Readiness and metrics report it. Meanwhile pulls continue uncached and stored content is served. Nothing is refused
//! because of a fault, since the next write may succeed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::Error;
use super::lock::lock;
use crate::host::LogThrottle;

/// How long the disk may take for anything. A client has its headers within 25 s: so there is time to open a file in vain,
/// to look into the catalog in vain, and to ask the registry.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why the cache cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskFault {
    /// The file system, or a quota on it, is full, and eviction freed nothing.
    #[error("the cache's file system is full")]
    Full,
    /// The file system is mounted read-only, often by the system itself after an error.
    #[error("the cache's file system is read-only")]
    ReadOnly,
    /// A directory of the cache does not take files: its permissions forbid that.
    #[error("the proxy may not write to the cache directory (check its owner and mode, and its attributes: lsattr -d)")]
    Denied,
    /// A directory of the cache is gone.
    #[error("a directory of the cache is missing")]
    Missing,
    /// The disk reports errors.
    #[error("the cache's disk is failing")]
    Failing,
    /// The disk does not return from what it was asked.
    #[error("the cache's disk hangs")]
    Hanging,
}

impl DiskFault {
    /// What an error of the system says about the disk; `None` where it is about something else.
    fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::Full),
            io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            io::ErrorKind::TimedOut => Some(Self::Hanging),
            io::ErrorKind::Other => error.get_ref()?.downcast_ref::<Unwritable>().map(|unwritable| unwritable.fault),
            _ if is_disk_failure(error) => Some(Self::Failing),
            _ => None,
        }
    }
}

/// A directory that takes no files.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", folder.display())]
struct Unwritable {
    fault: DiskFault,
    folder: PathBuf,
    source: io::Error,
}

/// What `error` says if it is about the directory `folder` as a whole, in which a name was to be made.
pub(crate) fn unwritable(folder: &Path, error: &io::Error) -> Option<io::Error> {
    let fault = match error.kind() {
        io::ErrorKind::PermissionDenied => DiskFault::Denied,
        // Else it is the file that is moved which is gone.
        io::ErrorKind::NotFound if !folder.is_dir() => DiskFault::Missing,
        _ => return None,
    };
    let source = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
    Some(io::Error::other(Unwritable { fault, folder: folder.to_owned(), source }))
}

/// Whether the disk could not read what it holds (`EIO`).
pub(crate) fn is_disk_failure(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

impl Error {
    /// What the error says about the disk; `None` where it is about something else.
    #[must_use]
    pub fn disk_fault(&self) -> Option<DiskFault> {
        match self {
            Self::Full { .. } | Self::TooLarge { .. } => Some(DiskFault::Full),
            Self::Io { source, .. } => DiskFault::of(source),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    folder: Option<DiskFault>,
    catalog: Option<DiskFault>,
    /// Counts failures, so that a probe does not overlook a failure beside it.
    failures: u64,
}

/// The health of the folder and of the catalog.
#[derive(Debug)]
pub(crate) struct StoreHealth {
    state: Mutex<State>,
    hanging: AtomicBool,
    /// Whether the store has been opened: until then, a fault ends the start, with words of its own.
    opened: AtomicBool,
    /// Counts steps of evictions, which may take long in all while the disk does well.
    freed: AtomicU64,
    /// The same for those who wait for the disk.
    hangs: watch::Sender<bool>,
    patience: Duration,
    /// Paces the lines about content that could not be stored.
    pub(crate) unstored: LogThrottle,
}

impl Default for StoreHealth {
    fn default() -> Self {
        Self::with_patience(PATIENCE)
    }
}

impl StoreHealth {
    /// The fault of either.
    pub(crate) fn fault(&self) -> Option<DiskFault> {
        let state = lock(&self.state);
        state.folder.or(state.catalog)
    }

    /// The fault of the catalog.
    pub(crate) fn catalog(&self) -> Option<DiskFault> {
        lock(&self.state).catalog
    }

    /// The health of a disk that counts as hanging when something takes longer than that.
    pub(crate) fn with_patience(patience: Duration) -> Self {
        Self {
            state: Mutex::default(),
            hanging: false.into(),
            opened: false.into(),
            freed: 0.into(),
            hangs: watch::Sender::new(false),
            patience,
            unstored: LogThrottle::new(),
        }
    }

    /// Records that the store is open, so that pulls go on whatever its disk does.
    pub(crate) fn opened(&self) {
        self.opened.store(true, Ordering::Relaxed);
        let Some(fault) = lock(&self.state).folder else { return };
        tracing::error!("{fault}: pulls continue uncached until it recovers");
    }

    /// Records that an eviction has come one step further.
    pub(crate) fn freed(&self) {
        self.freed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many steps evictions have taken.
    pub(crate) fn steps_of_evictions(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }

    /// How long anything may take.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether the disk hangs.
    pub(crate) fn is_hanging(&self) -> bool {
        self.hanging.load(Ordering::Relaxed)
    }

    fn set_hanging(&self, hanging: bool) {
        self.hanging.store(hanging, Ordering::Relaxed);
        self.hangs.send_replace(hanging);
    }

    /// Waits until it does. Cancel-safe.
    pub(crate) async fn hang(&self) {
        let _ = self.hangs.subscribe().wait_for(|hangs| *hangs).await; // the sender is here
    }

    /// Records that the disk has not returned for as long as it may.
    pub(crate) fn hung(&self, doing: &'static str, path: &Path) {
        let error = format!("could not {doing} {} within {} s", path.display(), self.patience.as_secs());
        self.failed(&io::Error::new(io::ErrorKind::TimedOut, error));
    }

    /// Records that a step in the folder failed.
    pub(crate) fn failed(&self, error: &io::Error) {
        let Some(fault) = DiskFault::of(error) else { return };
        let mut state = lock(&self.state);
        state.failures += 1;
        self.set_hanging(fault == DiskFault::Hanging);
        if state.folder.replace(fault) != Some(fault) && self.opened.load(Ordering::Relaxed) {
            drop(state);
            tracing::error!(%error, "{fault}: pulls continue uncached until it recovers");
        }
    }

    /// Records why the catalog could not be written, or that it could.
    pub(crate) fn set_catalog(&self, fault: Option<DiskFault>) {
        lock(&self.state).catalog = fault;
    }

    /// Tests a faulty folder again: it is healthy when `probe` succeeds and nothing fails beside it.
    pub(crate) fn probe(&self, probe: impl FnOnce(DiskFault) -> Result<(), Error>) {
        let (fault, failures) = {
            let state = lock(&self.state);
            (state.folder, state.failures)
        };
        let Some(fault) = fault else { return };
        if probe(fault).is_err() {
            return;
        }
        let mut state = lock(&self.state);
        if state.failures == failures {
            state.folder = None;
            self.set_hanging(false);
            drop(state);
            let unlogged = self.unstored.reset();
            tracing::info!(
                unlogged,
                "the cache directory can be written again; unlogged failures to store something are counted"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_stays_until_a_probe_succeeds_beside_which_nothing_fails() {
        let (health, full) = (StoreHealth::default(), || io::Error::from(io::ErrorKind::StorageFull));
        health.failed(&io::ErrorKind::PermissionDenied.into());
        assert_eq!(health.fault(), None, "that is not the disk's fault");
        health.failed(&full());
        health.probe(|_| Err(Error::Closed));
        assert_eq!(health.fault(), Some(DiskFault::Full));
        health.probe(|_| {
            health.failed(&full());
            Ok(())
        });
        assert_eq!(health.fault(), Some(DiskFault::Full));
        health.set_catalog(Some(DiskFault::ReadOnly));
        health.probe(|_| Ok(()));
        assert_eq!(health.fault(), Some(DiskFault::ReadOnly), "the catalog is still faulty");
        health.set_catalog(None);
        assert_eq!(health.fault(), None);
        health.failed(&io::Error::from_raw_os_error(5));
        assert_eq!(health.fault(), Some(DiskFault::Failing));
    }
}
