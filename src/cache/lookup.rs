//! The cache as a whole, and the rules of permission that all its lookups share.
//!
//! Three things are kept apart. A *grant*: the registry said 200 to this principal in this repository. A
//! *link*: this content is in this repository; it is noted when the registry has delivered the verified
//! content, or has vouched by HEAD for content that is shared already. *Shared* content has been delivered
//! without credentials somewhere, or by this very registry. So a registry that says 200 to every HEAD, or
//! opens a body and sends rubbish, earns nothing that another one gave to somebody's credentials.

use std::time::{Instant, SystemTime};

use super::fill::{FillConfig, Fills};
use super::manifests::Manifests;
use super::prefetch::Listings;
use super::tags::Tags;
use super::{Caller, Fault, Grants, Inventory, Links, NoRandom, Principal, Said};
use crate::oci::Digest;
use crate::store::{Content, Store};
use crate::telemetry::Metrics;

/// When something was asked upstream. An answer counts as of then, not as of when it is noted: a no that came
/// in between outweighs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) instant: Instant,
    pub(super) time: SystemTime,
}

impl Asked {
    pub(super) fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}

/// The cache: the store, what is on its way into it, and who may read what.
#[derive(Clone)]
pub struct Cache {
    pub(super) store: Store,
    pub(super) fills: Fills,
    pub(super) links: Links,
    pub(super) grants: Grants,
    pub(super) manifests: Manifests,
    pub(super) tags: Tags,
    pub(super) listings: Listings,
}

impl Cache {
    /// A cache over `store`.
    ///
    /// # Errors
    /// The system's random numbers cannot be read.
    pub fn new(store: Store, fill: FillConfig, metrics: Metrics) -> Result<Self, NoRandom> {
        Ok(Self {
            fills: Fills::new(store.clone(), fill, metrics),
            links: Links::new(store.clone()),
            grants: Grants::new()?,
            manifests: Manifests::new(),
            tags: Tags::new(store.clone()),
            listings: Listings::new(),
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

    /// Puts away what is on its way, to be continued after the next start.
    pub async fn put_away(&self) {
        self.fills.put_away().await;
    }

    /// The media type under which `digest` may be released to the caller without asking upstream. `None`: it must
    /// be asked. The type is `Some(None)` where none was said.
    pub(super) async fn released(&self, caller: &Caller, digest: &Digest, content: Content) -> Option<Option<String>> {
        let link = self.links.find(&caller.place, digest, content).await?;
        if let Some(media_type) = &link.anonymously {
            return Some(media_type.clone());
        }
        link.with_credentials.clone().filter(|_| self.grants.holds(&caller.place, &caller.principal))
    }

    /// The same by what is in memory, without waiting.
    pub(super) fn is_released_now(&self, caller: &Caller, digest: &Digest, content: Content) -> bool {
        self.links.find_hot(&caller.place, digest, content).is_some_and(|link| {
            let granted = || self.grants.holds(&caller.place, &caller.principal);
            link.anonymously.is_some() || (link.with_credentials.is_some() && granted())
        })
    }

    /// The registry delivered the content to the caller, who `asked` then, and its digest matched.
    pub(super) fn delivered(
        &self,
        caller: &Caller,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        asked: Asked,
    ) {
        self.grants.give(&caller.place, &caller.principal, asked.instant);
        self.links.note(&caller.place, digest, content, media_type, caller.principal.learns(), asked.time);
    }

    /// The registry said 200 by HEAD to the caller, for a content that is shared or not.
    pub(super) fn vouched(
        &self,
        caller: &Caller,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        shared: bool,
        asked: Asked,
    ) {
        self.grants.give(&caller.place, &caller.principal, asked.instant);
        if shared {
            self.links.note(&caller.place, digest, content, media_type, caller.principal.learns(), asked.time);
        }
    }

    /// What a fault says about the caller's rights.
    pub(super) fn heed(&self, caller: &Caller, fault: &Fault) {
        if !matches!(fault.said, Said::Denied | Said::Forbidden) {
            return;
        }
        self.fills.doubt(caller);
        match caller.principal {
            Principal::Anonymous => self.links.deny_anonymous(&caller.place),
            Principal::Known(_) => self.grants.revoke(&caller.place, &caller.principal),
        }
    }
}
