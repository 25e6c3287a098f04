//! One download for each digest and registry, however many ask; every reader follows the growing file.
//!
//! Flow: [`Fills`] joins callers of the same content. A [`Fill`] owns a staged file and a plan of what has
//! landed. Its pilot opens sources one after another until nothing is missing, while a digest reader
//! follows like any other reader; when the digest matched, held bytes are released and the file is
//! committed. A [`Follower`] is a body that reads the staged file at its own pace.
//! Scope: blobs. Manifests are small and fetched whole.
//! Never: publish a byte range as whole before its digest matched; let a reader slow the fill; let one
//! registry's bytes reach another registry's readers before they are verified.
//! Reading: DESIGN.md "Fill"; RFC 9110 sections 13.1.5 (If-Range) and 14.

mod extents;
#[allow(clippy::module_inception, reason = "the room is named for its one noun")]
mod fill;
mod fills;
mod follower;
mod pilot;
mod plan;
mod writer;

pub use extents::Extents;
pub use fill::Fill;
pub use fills::Fills;
pub(super) use fills::{Entered, Opening};
pub use follower::Follower;
