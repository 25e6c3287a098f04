//! What ails the disk, from the first step that fails until a probe goes well again.
//!
//! For readiness and metrics: while there is fault, pulls go on uncached and what is stored is served. Nothing is
//! refused because of it, since the very next write may go well.

use std::io;
use std::sync::Mutex;

use super::Error;
use super::lock::lock;

/// Why the cache cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskFault {
    /// The file system, or a quota on it, has no room, and eviction made none.
    #[error("the cache's file system is full")]
    Full,
    /// The file system is mounted read-only, often by the system itself after an error.
    #[error("the cache's file system is read-only")]
    ReadOnly,
    /// The disk reports errors.
    #[error("the cache's disk fails")]
    Failing,
}

impl DiskFault {
    /// What an error of the system says of the disk; `None` where it is about something else.
    fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::Full),
            io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            _ if is_disk_failure(error) => Some(Self::Failing),
            _ => None,
        }
    }
}

/// Whether the disk could not read what it holds.
pub(crate) fn is_disk_failure(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

impl Error {
    /// What it says of the disk; `None` where it is about something else.
    #[must_use]
    pub fn disk_fault(&self) -> Option<DiskFault> {
        match self {
            Self::Full { .. } => Some(DiskFault::Full),
            Self::Io { source, .. } => DiskFault::of(source),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    folder: Option<DiskFault>,
    catalog: Option<DiskFault>,
    /// Counts what failed, so that a probe does not overlook what fails beside it.
    failures: u64,
}

/// The state of folder and catalog.
#[derive(Debug, Default)]
pub(crate) struct StoreHealth(Mutex<State>);

impl StoreHealth {
    /// What ails either.
    pub(crate) fn fault(&self) -> Option<DiskFault> {
        let state = lock(&self.0);
        state.folder.or(state.catalog)
    }

    /// What ails the catalog.
    pub(crate) fn catalog(&self) -> Option<DiskFault> {
        lock(&self.0).catalog
    }

    /// A step in the folder failed.
    pub(crate) fn failed(&self, error: &io::Error) {
        let Some(fault) = DiskFault::of(error) else { return };
        let mut state = lock(&self.0);
        state.failures += 1;
        if state.folder.replace(fault) != Some(fault) {
            drop(state);
            tracing::error!(%error, "{fault}: pulls go on uncached until it is well again");
        }
    }

    /// The catalog could not be written for this reason, or could.
    pub(crate) fn set_catalog(&self, fault: Option<DiskFault>) {
        lock(&self.0).catalog = fault;
    }

    /// Tries the folder again, if it was ill: it is well when `probe` succeeds and nothing fails beside it.
    pub(crate) fn probe(&self, probe: impl FnOnce(DiskFault) -> Result<(), Error>) {
        let (fault, failures) = {
            let state = lock(&self.0);
            (state.folder, state.failures)
        };
        let Some(fault) = fault else { return };
        if probe(fault).is_err() {
            return;
        }
        let mut state = lock(&self.0);
        if state.failures == failures {
            state.folder = None;
            drop(state);
            tracing::info!("the cache's folder can be written again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_stays_until_a_probe_succeeds_beside_which_nothing_fails() {
        let (health, full) = (StoreHealth::default(), || io::Error::from(io::ErrorKind::StorageFull));
        health.failed(&io::ErrorKind::PermissionDenied.into());
        assert_eq!(health.fault(), None, "that is no disk's fault");
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
        assert_eq!(health.fault(), Some(DiskFault::ReadOnly), "the catalog is still ill");
        health.set_catalog(None);
        assert_eq!(health.fault(), None);
        health.failed(&io::Error::from_raw_os_error(5));
        assert_eq!(health.fault(), Some(DiskFault::Failing));
    }
}
