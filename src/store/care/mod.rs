//! Runs the background work of the store: eviction, the rebuild of the catalog, and the scrub, each on its own thread.
//!
//! Flow: the evictor (`evict.rs`) scans the rows, `policy.rs` chooses the least worth, and `Blobs` removes each under
//! its stripe. After an unclean end `rebuild.rs` compares the catalog with the folder and hashes what is unproven.
//! `scrub.rs` verifies suspects at once and, if enabled, all blobs at a limited rate.
//!
//! Scope: when work is due, how much and how fast. The work itself is done by `content`; nothing there imports this
//! room.
//!
//! Never: evicts a blob that is pinned or being read; makes up a link, type or tag; delays a pull, except one that
//! needs space. A closed store stops all three between two steps.
//!
//! Reading: `docs/operations.md` for limits; LRFU and GDSF for the policy.

pub(crate) mod evict;
pub(crate) mod policy;
pub(crate) mod rebuild;
pub(crate) mod scrub;
