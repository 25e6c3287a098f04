//! What may be answered from memory and disk, and what must be asked.
//!
//! Flow: a [`Place`] (registry and repository), a reference and a [`Principal`] come in with a [`Source`].
//! Permission first: a [`links`](Links) entry says that this content is in this place, [`Grants`] say that
//! this principal may read there; without both, the source is asked with the caller's own credentials. Then
//! the content: from the store, from a fill under way, or by a new one. Tags are believed for a while, then
//! revalidated by HEAD, and their last known answer outlives the registry's silence.
//! Scope: pulls. Pushes and everything else pass by above.
//! Never: take a digest for a permission; know a URL or a header; serve what was not verified.
//! Reading: RFC 9111 (freshness, revalidation), RFC 9211 (the outcomes), DESIGN.md "Links" to "Grants".

mod blobs;
mod config;
mod fill;
mod flight;
mod grants;
mod inventory;
mod links;
mod manifests;
mod passing;
mod policy;
mod reading;
mod source;
mod tags;

use std::sync::Arc;

use crate::oci::{Digest, Repository};
use crate::store::{Content, Store};
use crate::telemetry::Metrics;

pub use blobs::BlobFound;
pub use config::{TagRule, TagsConfig};
pub use fill::{Extents, Fill, Fills, Follower};
pub use grants::{Grants, Principal};
pub use inventory::{
    Command, Damage, Event, History, ImageRow, Inventory, InventoryError, Kind, Order, Part, PinChange, RegistryShare,
    Removal, Shown, Stats, Verified,
};
pub use links::Links;
pub use manifests::ManifestFound;
pub use passing::Passing;
pub use policy::{BadRule, Freshness, TagPolicy};
pub use reading::BlobBody;
pub use source::{Fault, Flow, Proof, Retry, Said, Source, Validator, Want, Whole};
pub use tags::{Asking, NoAnswer, Question, TagFound};

/// A repository at one registry. The registry is the origin's own name, never a pattern that covers it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The registry's name, such as `docker.io`.
    pub registry: Arc<str>,
    /// The repository in it.
    pub repository: Repository,
}

/// Who asks at which place, and what asks upstream on its behalf. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    /// Where the thing asked for is.
    pub place: Place,
    /// Whose credentials it carries.
    pub principal: Principal,
    /// Asks upstream for this very thing, with these credentials.
    pub source: Arc<dyn Source>,
}

/// The cache: the store, what is on its way into it, and who may read what.
#[derive(Clone)]
pub struct Cache {
    store: Store,
    fills: Fills,
    links: Links,
    grants: Grants,
    manifests: manifests::Manifests,
    tags: tags::Tags,
}

impl Cache {
    /// A cache over `store`.
    ///
    /// # Errors
    /// The system's random numbers cannot be read.
    pub fn new(store: Store, metrics: Metrics) -> Result<Self, grants::NoRandom> {
        Ok(Self {
            fills: Fills::new(store.clone(), metrics),
            links: Links::new(store.clone()),
            grants: Grants::new()?,
            manifests: manifests::Manifests::new(),
            tags: tags::Tags::new(store.clone()),
            store,
        })
    }

    /// Who `authorization` stands for at `registry`.
    #[must_use]
    pub fn principal(&self, registry: &str, authorization: Option<&[u8]>) -> Principal {
        self.grants.principal(registry, authorization)
    }

    /// Forgets what callers have proven, as when the registries' configuration changed.
    pub fn forget_grants(&self) {
        self.grants.clear();
    }

    /// What the cache holds, for the operator's commands.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let (links, tags, manifests) = (self.links.clone(), self.tags.clone(), self.manifests.clone());
        Inventory::served(self.store.clone(), move || {
            links.forget_all();
            tags.forget_all();
            manifests.forget_all();
        })
    }

    /// The media type under which `digest` may be released to the caller without asking upstream. `None`: it must
    /// be asked. The type is `Some(None)` where none was said.
    async fn released(&self, caller: &Caller, digest: &Digest, content: Content) -> Option<Option<String>> {
        let link = self.links.find(&caller.place, digest, content).await?;
        if let Some(media_type) = &link.anonymously {
            return Some(media_type.clone());
        }
        link.with_credentials.clone().filter(|_| self.grants.holds(&caller.place, &caller.principal))
    }

    /// The source's own request was answered with 200: the caller may read at its place, and this is there.
    fn proven(&self, caller: &Caller, digest: &Digest, content: Content, media_type: Option<String>) {
        self.grants.give(&caller.place, &caller.principal);
        self.links.note(&caller.place, digest, content, media_type, caller.principal.learns());
    }

    /// What a fault says about the caller's rights.
    fn heed(&self, caller: &Caller, fault: &Fault) {
        if fault.said == Said::Denied {
            self.grants.revoke(&caller.place, &caller.principal);
        }
    }
}
