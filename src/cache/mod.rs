//! Answers from memory and disk what may be answered so, and asks the registry for the rest.
//!
//! Flow: a [`Requester`] (a principal at a place) and a digest or a tag come in. Permission first: rights/ tells by what the
//! registry has said whether this principal may read here; without that the requester's [`Source`] is made, and asked with
//! its own credentials, once for all that ask the same (`together`). While the registry cannot be asked, its earlier word
//! counts for longer ([`Trust`]). Then the content: from the store (manifests/, body/), from a fill under way, or by a
//! new one (fill/). Tags are believed for a while, then revalidated by HEAD, and their last known answer outlives the
//! registry's silence. [`Cache`] is the facade; below it are blobs, manifests and tags, then proofs, then rights.
//! Scope: pulls, and what is learned from pushes on their way (push/). Everything else passes by above.
//! Never: take a digest for a permission; know a URL or a header; serve what was not verified; make a source for a hit
//! that needs none.
//! Reading: RFC 9111 (freshness, revalidation), RFC 9211 (the outcomes), docs/credentials.md, docs/architecture.md.

mod blobs;
mod body;
#[expect(clippy::module_inception, reason = "the room is named for its one noun")]
mod cache;
mod caller;
mod config;
mod fill;
mod hint;
mod inventory;
mod manifests;
mod mismatch;
mod missing;
mod prefetch;
mod probe;
mod proofs;
mod push;
mod refusals;
mod rights;
#[cfg(test)]
mod silent;
mod source;
mod stored;
mod tags;
mod together;

pub use blobs::BlobFound;
pub use body::buffers::trim_buffers;
pub use body::verifying::Passing;
pub use cache::Cache;
pub use caller::{Caller, Carried, NoAnswer, Requester};
pub use config::{GrantsConfig, Lives, TagRule, TagsConfig};
pub use fill::{Extents, Fill, FillConfig, Fills, Follower, Waiter};
pub use inventory::{
    Command, ContentKind, Damage, Event, History, ImageRow, Inventory, InventoryError, Order, Part, PinChange,
    RegistryShare, Removal, Right, Shown, Stats, Verified,
};
pub use manifests::manifests::ManifestFound;
pub use probe::Occasion;
pub use push::deletions::Deletion;
pub use push::landing::Landing;
pub use push::pushes::{PushedManifest, Pusher, Pushes};
pub use push::staging::Staging;
pub use push::tag_write::TagWrite;
pub use rights::detours::{Detour, Detours};
pub use rights::grants::{Grants, NoMacKey};
pub use rights::links::Links;
pub use rights::place::Place;
pub use rights::principal::Principal;
pub use rights::publics::{PublicAge, Publics};
pub use rights::reader::PlaceReader;
pub use rights::trust::Trust;
pub use source::{
    Fault, FaultKind, Flow, Origins, Proof, Reach, Retry, Said, Source, Subject, Validator, Want, WhenFull, Whole,
};
pub use stored::{BlobBody, Stored};
pub use tags::answer::Asking;
pub use tags::freshness::{BadRule, Freshness, TagPolicy};
pub use tags::tags::{TagFound, TagQuestion};
