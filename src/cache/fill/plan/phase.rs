//! The phases of a fill, and why a reader gets nothing more from it.

use crate::cache::{Fault, Retry};

/// How far a fill is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Bytes are landing, or the digest is being computed.
    Filling,
    /// All is there, in bytes, and the digest matched.
    Verified(u64),
    /// It stopped for want of readers; nobody may join any more.
    Parked,
    /// The disk takes no more: what has landed can be read, the rest each reader fetches itself.
    Detached(Fault),
    /// It failed for good.
    Broken(Fault),
}

impl Phase {
    /// What callers are told that wait for the end: the length in bytes, or the fault. `None` while it fills.
    pub(crate) fn end(&self) -> Option<Result<u64, Fault>> {
        match self {
            Self::Filling => None,
            Self::Verified(total) => Some(Ok(*total)),
            Self::Parked => Some(Err(stopping())),
            Self::Detached(fault) | Self::Broken(fault) => Some(Err(fault.clone())),
        }
    }
}

/// Why a reader gets nothing more from the file.
#[derive(Clone, Debug)]
pub(crate) enum Gone {
    /// [`Phase::Broken`].
    Broken(Fault),
    /// [`Phase::Detached`].
    Detached(Fault),
}

/// The process ends while somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy is stopping")]
struct Stopping;

/// What readers are told then.
pub(crate) fn stopping() -> Fault {
    Fault::new(Retry::Again, Stopping)
}
