//! The phases of a fill, and why a reader gets nothing more from it.

use crate::cache::{Fault, Retry};

/// How far a fill is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Bytes are landing, or the digest is being computed.
    Filling,
    /// All is there and the digest matched.
    Verified,
    /// It stopped for want of readers; nobody may join any more.
    Parked,
    /// The disk takes no more: what has landed can be read, the rest each reader fetches itself.
    Detached(Fault),
    /// It failed for good.
    Broken(Fault),
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
