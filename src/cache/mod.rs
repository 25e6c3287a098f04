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
mod caller;
mod config;
mod fill;
mod grants;
mod inventory;
mod links;
mod lookup;
mod manifests;
mod mismatch;
mod passing;
mod policy;
mod pool;
mod prefetch;
mod probe;
mod proofs;
mod publics;
mod reading;
mod source;
mod stored;
mod tag_word;
mod tags;
mod whole;

pub use blobs::BlobFound;
pub use caller::{Caller, Place, Trust};
pub use config::{GrantsConfig, Lives, TagRule, TagsConfig};
pub use fill::{Extents, Fill, FillConfig, Fills, Follower, Guest};
pub use grants::{Grants, NoRandom, Principal};
pub use inventory::{
    Command, Damage, Event, History, ImageRow, Inventory, InventoryError, Kind, Order, Part, PinChange, RegistryShare,
    Removal, Right, Shown, Stats, Verified,
};
pub use links::Links;
pub use lookup::Cache;
pub use manifests::ManifestFound;
pub use passing::Passing;
pub use policy::{BadRule, Freshness, TagPolicy};
pub use pool::trim_buffers;
pub use probe::Occasion;
pub use publics::Publics;
pub use source::{Fault, Flow, Proof, Queue, Reach, Retry, Said, Source, Subject, Validator, Want, Whole};
pub use stored::{BlobBody, Stored};
pub use tag_word::Asking;
pub use tags::{NoAnswer, Question, TagFound};
