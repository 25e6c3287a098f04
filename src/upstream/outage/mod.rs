//! Tracks whether a registry is away: its own host, its token service and the hosts that it redirects to, each for itself.
//!
//! Flow: the caller of a request notes how it ended ([`Outage::note`]); `part` says what counts, `hosts` weighs what each host
//! said lately. A missed deadline, a refused connection, or several errors about several things make a part suspect:
//! a [`Probe`] of our own asks it at once, over a new connection. If that fails too, it is away; nobody asks it and
//! nobody waits, until a later probe is answered. While a part may be silent, what needs it waits for the first
//! probe, which has a short deadline; nobody is refused on a suspicion.
//! A token service that does not answer a probe is given up where the registry names another one by now (`named`): nobody needs
//! it any more.
//! Scope: one registry, in memory. What an open state means for a request is the caller's business.
//! Never: an outage made of what clients can ask for as they like, of one thing's errors, or of one part's for another;
//! or of what was asked before a change of state, which says nothing of the time after it; or of a host that answered
//! somebody since, which is slow and not away.

mod cause;
mod hosts;
mod named;
mod part;
mod parts;
mod probe;
mod question;
mod realms;
mod state;
#[cfg(test)]
mod tests;
mod told;
mod ward;

pub(crate) use cause::OutageCause;
pub(crate) use part::{OutagePart, is_telling};
pub(crate) use probe::Probe;
pub(crate) use question::SendProbe;
pub use state::{Outage, OutageSeen};
