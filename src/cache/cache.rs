//! The cache as a whole, and the rules of permission that all its lookups share.
//!
//! Three things are kept apart. A *right*: the registry said yes in this repository, to this principal (a grant)
//! or to nobody's request (it is public). A yes is a 200 that delivers or names a manifest, or that names a blob;
//! that bytes came which have a blob's digest is a yes to that blob alone, since whoever knows a gateway's page can ask
//! for its digest. A *link*: this content is in this repository; it is noted when the
//! registry has delivered the verified content, or a mirror did on the registry's word, or it has vouched for content
//! that is shared already: by HEAD, or by its answer to a GET of the first byte. *Shared* content has been delivered
//! without credentials somewhere, or by this very registry. So a registry that says 200 to every HEAD, or opens a body
//! and sends rubbish, earns nothing that another one gave to somebody's credentials.

use std::time::{Duration, Instant, SystemTime};

use super::fill::{FillConfig, Fills};
use super::manifests::Manifests;
use super::prefetch::Listings;
use super::proofs::Proofs;
use super::rights::publics::{self, Publics};
use super::tags::Tags;
use super::{Caller, Fault, Grants, Inventory, Links, NoRandom, Place, Principal, Reach, Said, Trust};
use crate::oci::Digest;
use crate::store::{Content, Store};
use crate::telemetry::Metrics;

/// When something was asked upstream. An answer counts as of then, not as of when it is noted: a no that came
/// in between outweighs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) instant: Instant,
    pub(crate) time: SystemTime,
}

impl Asked {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}

/// How a caller stands at a place, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It has to prove that it may read.
    Unknown,
    /// It might read some time ago: enough while the registry cannot be asked.
    Lapsed,
    /// It may read.
    Good,
}

impl Standing {
    fn of(proven: Option<Duration>, trust: &Trust, longest: Duration) -> Self {
        match proven {
            Some(age) if age < trust.lives.life || (trust.away && age < longest) => Self::Good,
            Some(age) if age < longest => Self::Lapsed,
            _ => Self::Unknown,
        }
    }
}

/// Content that is known to be where the caller asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Released {
    pub(crate) media_type: Option<String>,
    /// `Good` or `Lapsed`.
    pub(crate) standing: Standing,
}

/// The cache: the store, what is on its way into it, and who may read what.
#[derive(Clone)]
pub struct Cache {
    pub(crate) store: Store,
    pub(crate) fills: Fills,
    pub(crate) links: Links,
    pub(crate) grants: Grants,
    pub(crate) publics: Publics,
    pub(crate) manifests: Manifests,
    pub(crate) proofs: Proofs,
    pub(crate) tags: Tags,
    pub(crate) listings: Listings,
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
            publics: Publics::new(store.clone()),
            manifests: Manifests::new(),
            proofs: Proofs::new(),
            tags: Tags::new(store.clone()),
            listings: Listings::new(),
            store,
        })
    }

    /// Who has `credential` at `registry`: a header as it came, or what [`Cache::mac`] made of a credential.
    #[must_use]
    pub fn principal(&self, registry: &str, credential: Option<&[u8]>) -> Principal {
        self.grants.principal(registry, credential)
    }

    /// A MAC of secrets under a key that dies with the process, to compare them by.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.grants.mac(parts)
    }

    /// Whether the registry said of the repository that anybody may read it, within `lives`, or so long ago that
    /// it counts only while the registry cannot be asked.
    pub async fn is_public(&self, place: &Place, trust: &Trust) -> Option<bool> {
        match Standing::of(self.publics.age(place).await, trust, publics::LONGEST) {
            Standing::Good => Some(true),
            Standing::Lapsed => Some(false),
            Standing::Unknown => None,
        }
    }

    /// Whether `principal` has proven its right at `place`, lately or so long ago that it counts only while the
    /// registry cannot be asked.
    #[must_use]
    pub fn is_granted(&self, place: &Place, principal: &Principal, trust: &Trust) -> bool {
        Standing::of(self.grants.age(place, principal), trust, trust.lives.outage) > Standing::Unknown
    }

    /// Forgets what callers have proven, as when the registries' configuration changed.
    pub fn forget_grants(&self) {
        self.grants.clear();
    }

    /// What the cache holds, for the operator's commands.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let (links, tags, manifests) = (self.links.clone(), self.tags.clone(), self.manifests.clone());
        let publics = self.publics.clone();
        Inventory::served(self.store.clone(), move || {
            links.forget_all();
            publics.forget_all();
            tags.forget_all();
            manifests.forget_all();
        })
    }

    /// Puts away what is on its way, to be continued after the next start.
    pub async fn put_away(&self) {
        self.fills.put_away().await;
    }

    /// How the caller stands where it asks.
    pub(crate) async fn standing(&self, caller: &Caller) -> Standing {
        let by_grant = self.granted(caller);
        if by_grant == Standing::Good {
            return by_grant;
        }
        by_grant.max(Standing::of(self.publics.age(&caller.place).await, &caller.trust, publics::LONGEST))
    }

    /// Whether who might read some time ago is given what was known then, after `fault`: only where a probe has told that
    /// the registry itself is away. One question's failure can be made up, by whoever has lost a right. A throttle is
    /// no word of what anybody may read.
    pub(crate) async fn may_still(&self, caller: &Caller, fault: &Fault) -> bool {
        if fault.said != Said::Nothing {
            return false;
        }
        caller.source.is_gone().await
            || (caller.source.is_throttle(fault) && self.publics.age(&caller.place).await.is_some())
    }

    fn granted(&self, caller: &Caller) -> Standing {
        let age = self.grants.age(&caller.place, &caller.principal);
        Standing::of(age, &caller.trust, caller.trust.lives.outage)
    }

    /// The same as to one content alone.
    fn granted_content(&self, caller: &Caller, digest: &Digest) -> Standing {
        let age = self.grants.content_age(&caller.place, &caller.principal, digest);
        Standing::of(age, &caller.trust, caller.trust.lives.outage)
    }

    /// Whether `digest` is where the caller asks for it and the caller may read there, or might lately. `None`: it
    /// must be asked.
    pub(crate) async fn released(&self, caller: &Caller, digest: &Digest, content: Content) -> Option<Released> {
        let media_type = self.links.find(&caller.place, digest, content).await?;
        let standing = match self.standing(caller).await {
            Standing::Good => Standing::Good,
            other => other.max(self.granted_content(caller, digest)),
        };
        (standing > Standing::Unknown).then_some(Released { media_type, standing })
    }

    /// The same by what is in memory, without waiting, and by what holds in any case.
    pub(crate) fn is_released_now(&self, caller: &Caller, digest: &Digest, content: Content) -> bool {
        let public = || Standing::of(self.publics.hot_age(&caller.place), &caller.trust, publics::LONGEST);
        self.links.find_hot(&caller.place, digest, content).is_some()
            && self.granted(caller).max(public()).max(self.granted_content(caller, digest)) == Standing::Good
    }

    /// The content was delivered to the caller, who `asked` then, and its digest matched: a yes that reaches so far. That
    /// a mirror did so says nothing of the caller's right.
    pub(crate) fn delivered(
        &self,
        caller: &Caller,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        (reach, asked): (Reach, Asked),
    ) {
        if caller.source.decides() {
            self.may(caller, digest, reach, asked);
        }
        self.links.note(&caller.place, digest, content, media_type, caller.learns(), asked.time);
    }

    /// The registry said yes to the caller, for a content that is here and shared, or not.
    pub(crate) fn vouched(
        &self,
        caller: &Caller,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        shared: bool,
        (reach, asked): (Reach, Asked),
    ) {
        self.may(caller, digest, reach, asked);
        if shared {
            self.links.note(&caller.place, digest, content, media_type, caller.learns(), asked.time);
        }
    }

    /// The registry itself said yes to the caller. To nobody, on behalf of one, is a right that is found out by a probe.
    fn may(&self, caller: &Caller, digest: &Digest, reach: Reach, asked: Asked) {
        let Caller { place, principal, source, trust } = caller;
        match reach {
            Reach::Place if principal.is_nobody() => self.publics.open(place, asked.time, trust.forgeable),
            _ if source.is_lent() => {}
            Reach::Place => self.grants.give(place, principal, asked.instant),
            Reach::Content => self.grants.give_content(place, principal, digest, asked.instant),
        }
    }

    /// The registry said no to nobody's request, made at `asked`.
    pub(crate) fn close(&self, place: &Place, asked: Asked) {
        self.publics.close(place, asked.time);
        self.grants.revoke(place, &Principal::Anonymous);
    }

    /// What a fault says about the caller's rights. A token that has expired, or that anybody is given and was
    /// asked for something else, is refused without a word about them.
    pub(crate) fn heed(&self, caller: &Caller, fault: &Fault) {
        if !matches!(fault.said, Said::Denied | Said::Forbidden) || (caller.trust.lapsed && fault.said == Said::Denied)
        {
            return;
        }
        self.fills.doubt(caller);
        match caller.principal {
            Principal::Anonymous => self.close(&caller.place, Asked::now()),
            Principal::Anybody => {}
            Principal::Known(_) | Principal::Proxy => self.grants.revoke(&caller.place, &caller.principal),
        }
    }
}
