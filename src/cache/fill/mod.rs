//! Downloads each content once for each registry, however many callers ask; every reader follows the growing file.
//!
//! Flow: [`Fills`] joins callers of the same content, which has one slot (`slots`) and one `permit`; a [`Waiter`] is one
//! caller's share. A [`Fill`] owns a staged file and a plan of what has landed (`plan`). Its `task` runs the driver
//! (`transfer`), which starts lanes, each an upstream request with a claim on bytes that nobody else fetches: workers fill
//! the content from its first hole on, one of them or, for large blobs, as many as bring more (`parallelism`); scouts fetch
//! what a reader far ahead waits for (`demand`). The digest reader follows like any other reader; when the digest matched,
//! held bytes are released and the file is committed. A [`Follower`] reads the staged file at its own pace. A fill that
//! nobody waits for is parked: its file and extents are kept, and the next demand resumes it, after a restart too. So is
//! what has landed of one that its upstream does not finish, however it is asked (`transfer::shape`). One that
//! has brought nothing for long is asked again when a caller comes (`silence`). When the disk takes no more, each reader
//! goes on by a request of its own (`detached`).
//! Scope: blobs. Manifests are small and fetched whole.
//! Never: publish a byte range as whole before its digest matched; write a byte twice; let a reader slow the fill; let one
//! registry's bytes reach another registry's readers before they are verified.
//! Reading: docs/architecture.md, "A miss", docs/format.md "Fills"; RFC 9110 sections 13.1.5 (If-Range) and 14.

pub(crate) mod backoff;
pub(crate) mod checkpoint;
mod config;
mod endpoints;
mod fill;
mod fills;
pub(crate) mod hashing;
pub(crate) mod permit;
pub(crate) mod plan;
pub(crate) mod reader;
mod silence;
mod slots;
pub(crate) mod sources;
mod staged_file;
pub(crate) mod status;
mod task;
pub(crate) mod transfer;

pub use config::FillConfig;
pub use fill::Fill;
pub(crate) use fills::Entered;
pub use fills::Fills;
pub use plan::extents::Extents;
pub use reader::follower::Follower;
pub use reader::waiter::Waiter;
pub(crate) use sources::{Opening, says_nothing};
pub(crate) use status::Ending;
