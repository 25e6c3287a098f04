//! What ails the disk, from the first step that fails until a probe goes well again.
//!
//! For readiness and metrics: while there is trouble, pulls go on uncached and what is stored is served. Nothing is
//! refused because of it, since the very next write may go well.

use std::io;
use std::sync::Mutex;

use super::Error;
use super::lock::lock;

/// Why the cache cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
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

impl Trouble {
    /// What an error of the system says of the disk; `None` where it is about something else.
    fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::Full),
            io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            _ if is_ill(error) => Some(Self::Failing),
            _ => None,
        }
    }
}

/// Whether the disk could not read what it holds.
pub(crate) fn is_ill(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

impl Error {
    /// What it says of the disk; `None` where it is about something else.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Full { .. } => Some(Trouble::Full),
            Self::Io { source, .. } => Trouble::of(source),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    folder: Option<Trouble>,
    catalog: Option<Trouble>,
    /// Counts what failed, so that a probe does not overlook what fails beside it.
    failures: u64,
}

/// The state of folder and catalog.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

impl Health {
    /// What ails either.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let state = lock(&self.0);
        state.folder.or(state.catalog)
    }

    /// What ails the catalog.
    pub(crate) fn catalog(&self) -> Option<Trouble> {
        lock(&self.0).catalog
    }

    /// A step in the folder failed.
    pub(crate) fn failed(&self, error: &io::Error) {
        let Some(trouble) = Trouble::of(error) else { return };
        let mut state = lock(&self.0);
        state.failures += 1;
        if state.folder.replace(trouble) != Some(trouble) {
            drop(state);
            tracing::error!(%error, "{trouble}: pulls go on uncached until it is well again");
        }
    }

    /// The catalog could not be written for this reason, or could.
    pub(crate) fn set_catalog(&self, trouble: Option<Trouble>) {
        lock(&self.0).catalog = trouble;
    }

    /// Tries the folder again, if it was ill: it is well when `probe` succeeds and nothing fails beside it.
    pub(crate) fn probe(&self, probe: impl FnOnce(Trouble) -> Result<(), Error>) {
        let (trouble, failures) = {
            let state = lock(&self.0);
            (state.folder, state.failures)
        };
        let Some(trouble) = trouble else { return };
        if probe(trouble).is_err() {
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
        let (health, full) = (Health::default(), || io::Error::from(io::ErrorKind::StorageFull));
        health.failed(&io::ErrorKind::PermissionDenied.into());
        assert_eq!(health.trouble(), None, "that is no disk's fault");
        health.failed(&full());
        health.probe(|_| Err(Error::Closed));
        assert_eq!(health.trouble(), Some(Trouble::Full));
        health.probe(|_| {
            health.failed(&full());
            Ok(())
        });
        assert_eq!(health.trouble(), Some(Trouble::Full));
        health.set_catalog(Some(Trouble::ReadOnly));
        health.probe(|_| Ok(()));
        assert_eq!(health.trouble(), Some(Trouble::ReadOnly), "the catalog is still ill");
        health.set_catalog(None);
        assert_eq!(health.trouble(), None);
        health.failed(&io::Error::from_raw_os_error(5));
        assert_eq!(health.trouble(), Some(Trouble::Failing));
    }
}
