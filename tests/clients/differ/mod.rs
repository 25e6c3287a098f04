//! The proxy beside other programs: what they make of the same bytes is the same, or the proxy refused.
//!
//! Flow: `target` spells requests as an attacker would, `crate::raw` says them without tidying, `acting` are real
//! upstreams that log what they act on. `routes` compares that with what the proxy judged, `ranges` compares answers to
//! `Range` with nginx's, `smuggling` whether a registry ever reads a request that nobody made. Cases come from a seed: the same on each run.
//! Never: an expectation of our own about a spelling. Only what another program made of it counts.

mod acting;
mod forms;
mod ranges;
mod routes;
mod smuggling;
mod target;
