//! Whether a registry is away: one state for its host, its token service and the hosts that it redirects to.
//!
//! Flow: whoever asked notes how it ended ([`Outage::note`]); `hosts` weighs what each host said lately. The
//! first missed deadline, refused connection or unknown name opens the state for all; while it is open nobody asks
//! and nobody waits. A [`Probe`] asks the parts that failed, alone and ever more seldom, and closes it.
//! Scope: one registry, in memory. What an open state means for a request is the caller's business.
//! Never: an outage made of what was asked before a change of state, which says nothing of the time after it; or of
//! a host that answered somebody since, which is slow and not away.

mod hosts;
mod part;
mod probe;
mod state;

pub(super) use probe::Probe;
pub use state::Outage;
