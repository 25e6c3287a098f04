//! What may be answered from memory and disk, and what must be asked.
//!
//! Flow: a [`Place`] (registry and repository), a reference and a [`Principal`] come in with a [`Source`].
//! Permission first: a [`links`](Links) entry says that this content is in this place, [`Grants`] say that
//! this principal may read there, [`Publics`] that anybody may; without both, the source is asked with the
//! caller's own credentials, and while it cannot be asked its earlier word counts for longer ([`Trust`]). Then
//! the content: from the store, from a fill under way, or by a new one. Tags are believed for a while, then
//! revalidated by HEAD, and their last known answer outlives the registry's silence.
//! Scope: pulls. Pushes and everything else pass by above.
//! Never: take a digest for a permission; know a URL or a header; serve what was not verified.
//! Reading: RFC 9111 (freshness, revalidation), RFC 9211 (the outcomes), docs/credentials.md, docs/architecture.md.

mod blobs;
mod body;
mod cache;
mod config;
mod fill;
mod freshness;
mod inventory;
mod manifests;
mod mismatch;
mod prefetch;
mod probe;
mod proofs;
mod rights;
mod source;
mod tag_answer;
mod tags;
mod whole;

pub use blobs::BlobFound;
pub use body::buffers::trim_buffers;
pub use body::stored::{BlobBody, Stored};
pub use body::verifying::Passing;
pub use cache::Cache;
pub use config::{GrantsConfig, Lives, TagRule, TagsConfig};
pub use fill::{Extents, Fill, FillConfig, Fills, Follower, Waiter};
pub use freshness::{BadRule, Freshness, TagPolicy};
pub use inventory::{
    Command, Damage, Event, History, ImageRow, Inventory, InventoryError, Kind, Order, Part, PinChange, RegistryShare,
    Removal, Right, Shown, Stats, Verified,
};
pub use manifests::ManifestFound;
pub use probe::Occasion;
pub use rights::caller::{Caller, Place, Trust};
pub use rights::grants::{Grants, NoRandom, Principal};
pub use rights::links::Links;
pub use rights::publics::Publics;
pub use source::{Fault, Flow, Proof, Queue, Reach, Retry, Said, Source, Subject, Validator, Want, Whole};
pub use tag_answer::Asking;
pub use tags::{NoAnswer, Question, TagFound};
