//! What of a registry does not answer, and for how long that counts.

use http::uri::PathAndQuery;

use crate::oci::Authority;
use crate::upstream::Endpoint;

/// After so many probes in vain a redirect's host holds the registry back no longer: its own answers count more.
/// Nor does a token service that answers, if only with errors: they may be about what it was asked.
const PATIENCE: u32 = 3;

/// The part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The registry itself.
    Home(Endpoint),
    /// Its token service, how it was asked, and how many probes it has answered with an error.
    Realm(Endpoint, PathAndQuery, u32),
    /// A host that it redirected to, and how many probes it has missed.
    Elsewhere(Authority, u32),
}

/// How a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// By an answer of 5xx.
    Error,
    /// By none.
    Silence,
}

impl Part {
    /// The same after a probe failed; `None` once it holds the registry back no longer.
    pub(super) fn after(self, how: Failed) -> Option<Self> {
        match (self, how) {
            (Self::Elsewhere(host, vain), _) => (vain + 1 < PATIENCE).then_some(Self::Elsewhere(host, vain + 1)),
            (Self::Realm(endpoint, target, vain), Failed::Error) => {
                (vain + 1 < PATIENCE).then_some(Self::Realm(endpoint, target, vain + 1))
            }
            (part, _) => Some(part),
        }
    }
}
