//! Finds what a tag means for a caller: the last known answer while it is fresh, else the registry's word by HEAD, else
//! the last known answer after all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::info;

use super::answer::{self, Asking, Came, TagAnswer};
use super::freshness::Freshness;
use super::memory::{TagMemory, age, known, latest, stand_in};
use super::writes::{Era, UnderWay, Writes};
use crate::cache::GrantsConfig;
use crate::cache::caller::{Asker, Caller, Requester};
use crate::cache::manifests::store::ManifestStore;
use crate::cache::manifests::whole::{is_schema1, media_type_of};
use crate::cache::missing::Missing;
use crate::cache::refusals::Refusals;
use crate::cache::rights::asked_at::AskedAt;
use crate::cache::rights::place::Place;
use crate::cache::rights::rights::{Rights, Yes};
use crate::cache::rights::trust::Permission;
use crate::cache::source::{Fault, Reach, Said, Subject};
use crate::cache::together::{Inquiry, Together};
use crate::host::{Coalesced, TaskGroup};
use crate::oci::{Accept, Digest, MediaType, Tag};
use crate::store::{Content, Learned, Store, TagEntry};
use crate::telemetry::Outcome;

/// A client is always answered within this time (containerd gives up after 30 s).
const PATIENCE: Duration = Duration::from_secs(25);

/// A tag, and how it is asked for.
#[derive(Clone, Debug)]
pub struct TagQuestion {
    /// The tag.
    pub tag: Tag,
    /// What the client accepts.
    pub accept: Accept,
    /// How long an answer is believed.
    pub freshness: Freshness,
    /// What is wanted.
    pub asking: Asking,
}

/// A tag's answer.
#[derive(Clone, Debug)]
pub struct TagFound {
    /// What the tag means.
    pub digest: Digest,
    /// `Content-Type`.
    pub media_type: String,
    /// Length in bytes.
    pub size: u64,
    /// How long ago the registry said so.
    pub age: Duration,
    /// Where the answer came from; `Stale` when the registry was silent.
    pub outcome: Outcome,
}

impl TagQuestion {
    /// How long it is believed that the tag is not there: never longer than what it means would be.
    fn missing_for(&self, caller: &Caller) -> Duration {
        caller.trust.missing_for.min(self.freshness.fresh_for)
    }
}

/// What tags mean.
pub(crate) struct Tags {
    rights: Arc<Rights>,
    refusals: Arc<Refusals>,
    memory: TagMemory,
    writes: Writes,
    missing: Missing<(Tag, Accept)>,
    /// The signatures and other attachments that are not there: what verifies an image asks for each of them.
    unattached: Missing<(Tag, Accept)>,
    kept: ManifestStore,
    asked: Together<TagInquiry>,
}

/// One caller's question to the registry.
#[derive(Clone)]
struct TagInquiry {
    tags: Arc<Tags>,
    caller: Caller,
    question: TagQuestion,
    /// By GET at once.
    by_content: bool,
    /// The registry does not have this by its digest: another answer is wanted.
    refused: Option<Digest>,
    /// It is asked since then.
    era: Era,
}

impl Tags {
    pub(crate) fn new(
        rights: Arc<Rights>,
        refusals: Arc<Refusals>,
        kept: ManifestStore,
        store: Store,
        tasks: TaskGroup,
    ) -> Self {
        let writes = Writes::new();
        let (memory, missing) = (TagMemory::new(store, writes.clone()), Missing::new());
        let unattached = Missing::lasting(GrantsConfig::LONGEST.0);
        Self { rights, refusals, memory, writes, missing, unattached, kept, asked: Together::new(tasks) }
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(crate) fn forget_all(&self) {
        self.memory.forget_all();
    }

    /// As [`Cache::tag`](crate::cache::Cache::tag).
    pub(crate) async fn find(
        self: &Arc<Self>,
        requester: &impl Requester,
        question: &TagQuestion,
    ) -> Result<TagFound, Fault> {
        let reader = requester.reader();
        let entries = self.memory.entries(reader.place, &question.tag).await;
        let entry = known(&entries, question.accept);
        let permission = match (self.rights.permission(reader).await, entry) {
            // Who may have the manifest that a tag means, for having pushed it, may be told that it does.
            (permission, Some(entry)) if permission < Permission::Good => {
                permission.max(self.rights.granted_content(reader, &entry.digest))
            }
            (permission, _) => permission,
        };
        let fresh = |entry: &&TagEntry| {
            permission == Permission::Good
                && age(entry) < question.freshness.fresh_for
                && self.writes.is_quiet(reader.place, &question.tag)
        };
        if let Some(entry) = entry.filter(fresh) {
            return Ok(found(entry, Outcome::Hit));
        }
        Box::pin(self.at_source(requester.caller(), question, &entries, permission)).await // see `BlobLookup::find`
    }

    async fn at_source(
        self: &Arc<Self>,
        caller: &Caller,
        question: &TagQuestion,
        entries: &[TagEntry],
        permission: Permission,
    ) -> Result<TagFound, Fault> {
        let TagQuestion { tag, accept, freshness, asking } = question;
        // A caller that might read lately is told the last answer if the registry cannot be asked, and not before.
        let may = |_: &&TagEntry| permission > Permission::Unknown;
        let own = known(entries, *accept).filter(may);
        if let Some(fault) = self.missing.known(caller, (tag.clone(), *accept), question.missing_for(caller)) {
            return Err(fault);
        }
        let stand_in = own.or_else(|| stand_in(entries.iter().filter(may), *accept));
        if let Some(entry) = stand_in.filter(|_| caller.source.is_away()) {
            return Ok(found(entry, Outcome::Stale));
        }
        let unattached = || self.unattached.known(caller, (tag.clone(), *accept), caller.trust.lives.outage);
        if let Some(fault) = caller.source.is_away().then(unattached).flatten() {
            return Err(fault);
        }
        // A tag that nobody knows yet: one GET tells all. Else HEAD, which is not counted where pulls are.
        let by_content = *asking == Asking::Content && known(entries, *accept).is_none();
        let wait = if stand_in.is_some() { freshness.deadline } else { PATIENCE };
        let inquiry = self.inquiry(caller, question, by_content, None);
        let (said, outcome) = match self.asked.ask_within(wait, &inquiry).await {
            Coalesced::Led(said) => (said, Outcome::Miss),
            Coalesced::Joined(said) => (said, Outcome::Collapsed),
        };
        let silence = match said {
            Ok(said) => return Ok(said.found(if own.is_some() { Outcome::Revalidated } else { outcome })),
            Err(fault) if fault.said != Said::Nothing => return Err(fault),
            Err(fault) => fault,
        };
        let Some(entry) = stand_in else {
            let fault = if caller.source.is_gone().await { unattached() } else { None };
            return Err(fault.unwrap_or(silence));
        };
        if permission < Permission::Good && !self.rights.may_still(caller, &silence).await {
            return Err(silence);
        }
        info!(
            registry = %caller.place.registry, repository = %caller.place.repository, %tag, fault = %silence,
            "the registry failed; its last known answer is served"
        );
        Ok(found(entry, Outcome::Stale))
    }

    /// What the tag is by GET, where the registry does not have the digest that it `said`; and whether that is kept.
    ///
    /// # Errors
    /// As of [`Tags::find`].
    pub(crate) async fn delivered(
        self: &Arc<Self>,
        caller: &Caller,
        question: &TagQuestion,
        said: &Digest,
    ) -> Result<(TagFound, bool), Fault> {
        let inquiry = self.inquiry(caller, question, true, Some(*said));
        let got = self.asked.ask_within(PATIENCE, &inquiry).await.into_inner()?;
        if got.digest != *said {
            // HEAD said another one's: it told too little.
            caller.source.compared(&Subject::Tag(question.tag.clone(), question.accept), None, None);
        }
        let is_kept = got.came == Came::Delivered;
        Ok((got.found(Outcome::Miss), is_kept))
    }

    /// The manifest came with this type, whatever HEAD has said: so is what is remembered.
    pub(crate) async fn retype(&self, place: &Place, question: &TagQuestion, digest: &Digest, media_type: &str) {
        let era = self.writes.era(place, &question.tag);
        let entries = self.memory.entries(place, &question.tag).await;
        let wrong = latest(&entries, question.accept);
        if let Some(entry) = wrong.filter(|entry| entry.digest == *digest && entry.media_type != media_type) {
            self.note(era, place, TagEntry { media_type: media_type.to_owned(), ..entry.clone() }).await;
        }
    }

    /// Remembers an answer of that era, unless the tag was written since.
    async fn note(&self, era: Era, place: &Place, entry: TagEntry) {
        let tag = entry.tag.clone();
        if self.writes.is_still(era, place, &tag) {
            self.memory.note(place, entry).await;
            if !self.writes.is_still(era, place, &tag) {
                self.memory.forget(place, &tag, None); // a write has begun meanwhile
            }
        }
    }

    fn inquiry(
        self: &Arc<Self>,
        caller: &Caller,
        question: &TagQuestion,
        by_content: bool,
        refused: Option<Digest>,
    ) -> TagInquiry {
        let era = self.writes.era(&caller.place, &question.tag);
        TagInquiry { tags: self.clone(), caller: caller.clone(), question: question.clone(), by_content, refused, era }
    }

    /// A write of the tag begins: until it ends nobody knows what the tag means. What it means is then told by
    /// [`Tags::pushed`] or forgotten by [`Tags::forget`], before and after its end.
    pub(crate) fn write(&self, place: &Place, tag: &Tag) -> UnderWay {
        self.writes.begin(place, tag)
    }

    /// What the tag meant may no longer hold.
    pub(crate) fn forget(&self, place: &Place, tag: &Tag) {
        self.missing.forget_all();
        self.unattached.forget_all();
        self.memory.forget(place, tag, None);
    }

    /// The registry accepted a manifest under the tag: whatever it meant before, this is what it means.
    pub(crate) async fn pushed(&self, place: &Place, tag: &Tag, manifest: (&Digest, &str, u64), learned: Learned) {
        self.forget(place, tag);
        let ((digest, media_type, size), checked) = (manifest, SystemTime::now());
        // The one is for any client that accepts its type; the other is remembered across a restart.
        for accept in [Accept::AS_PUSHED, Accept::EVERYTHING] {
            let (registry, repository) = (place.registry.clone(), place.repository.clone());
            let (tag, media_type) = (tag.clone(), media_type.to_owned());
            let entry =
                TagEntry { registry, repository, tag, accept, digest: *digest, media_type, size, checked, learned };
            self.memory.note(place, entry).await;
        }
    }

    /// The registry has a manifest no longer, nor any tag that means it.
    pub(crate) fn forget_manifest(&self, place: &Place, digest: &Digest) {
        self.writes.deleted(place);
        self.missing.forget_all();
        self.memory.forget_manifest(place, digest);
    }

    /// A 200 for a tag proves the caller's right to read here, and that the manifest is here.
    async fn learn(&self, inquiry: &TagInquiry, said: &TagAnswer, asked: AskedAt) {
        let TagInquiry { caller, question: TagQuestion { tag, accept, .. }, era, .. } = inquiry;
        let accept = *accept;
        let shared = match said.came {
            Came::Unkept => return,
            Came::Named if is_schema1(Some(&said.media_type)) => return,
            Came::Delivered => true, // by the registry itself, which no mirror speaks for
            Came::Named => self.rights.are_shared(&caller.place, &said.digest).await,
        };
        // A type that HEAD says is often another than that of GET, which counts.
        let media_type = Some(said.media_type.clone()).filter(|_| said.came == Came::Delivered);
        // Some have a manifest by its tag, and not by its digest.
        let yes = Yes { to: &Subject::Tag(tag.clone(), accept), reach: Reach::Place, asked };
        self.rights.vouched(caller, &said.digest, Content::Manifest, media_type, shared, yes);
        let entry = TagEntry {
            registry: caller.place.registry.clone(),
            repository: caller.place.repository.clone(),
            tag: tag.clone(),
            accept,
            digest: said.digest,
            media_type: said.media_type.clone(),
            size: said.size,
            checked: asked.time,
            learned: caller.principal.learns(),
        };
        self.note(*era, &caller.place, entry).await;
        let key = (tag.clone(), accept);
        self.missing.forget(&caller.place, &key);
        self.unattached.forget(&caller.place, &key);
    }

    /// A 404 takes away what this caller could see, and nothing that others learned with other rights: many
    /// registries say 404 to a caller that may not know that a repository is there.
    async fn learn_fault(&self, inquiry: &TagInquiry, fault: &Fault, asked: AskedAt) {
        let TagInquiry { caller, question, era, .. } = inquiry;
        let TagQuestion { tag, accept, .. } = question;
        if fault.said == Said::Missing && self.writes.is_still(*era, &caller.place, tag) {
            let Caller { place, principal, .. } = caller;
            if principal.is_nobody() || self.rights.grants().age(place, principal).is_some() {
                self.memory.forget(place, tag, Some((*accept, principal.learns())));
            }
            self.missing.note(caller, (tag.clone(), *accept), question.missing_for(caller), fault, asked);
            if tag.is_of_content() {
                let life = caller.trust.lives.outage;
                self.unattached.note(caller, (tag.clone(), *accept), life, fault, asked);
            }
        }
        self.refusals.heed(caller, &Subject::Tag(tag.clone(), *accept), fault).await;
    }

    /// With the type that GET said of the manifest, or that it has itself, where it is known to be here.
    async fn typed(&self, place: &Place, kept: &ManifestStore, said: TagAnswer) -> TagAnswer {
        if said.came != Came::Named {
            return said;
        }
        let Some(linked) = self.rights.links.find(place, &said.digest, Content::Manifest).await else { return said };
        let own = match &linked.media_type {
            Some(by_get) => Some(by_get.clone()),
            None => kept.find(&said.digest).await.map(|bytes| media_type_of(&bytes)),
        };
        let own = own.filter(|own| MediaType::parse(own).is_some());
        TagAnswer { media_type: own.unwrap_or(said.media_type), ..said }
    }
}

impl Inquiry for TagInquiry {
    type Key = (Place, Tag, Accept, Asker, Asking, bool, Era);
    type Answer = TagAnswer;

    fn key(&self) -> Self::Key {
        let TagQuestion { tag, accept, asking, .. } = &self.question;
        (self.caller.place.clone(), tag.clone(), *accept, self.caller.asker(), *asking, self.by_content, self.era)
    }

    fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The last answer, if it is fresh and the caller may have it by now.
    async fn look_again(&self) -> Option<TagAnswer> {
        let TagQuestion { tag, accept, freshness, .. } = &self.question;
        let entries = self.tags.memory.entries(&self.caller.place, tag).await;
        let entry = latest(&entries, *accept).filter(|entry| age(entry) < freshness.fresh_for)?;
        let entry = Some(entry).filter(|entry| self.refused != Some(entry.digest))?;
        let TagEntry { digest, media_type, size, .. } = entry.clone();
        let is_quiet = self.tags.writes.is_quiet(&self.caller.place, tag);
        let permission = self.tags.rights.permission(self.caller.reader()).await;
        (is_quiet && permission == Permission::Good).then_some(TagAnswer {
            digest,
            media_type,
            size,
            came: Came::Named,
        })
    }

    async fn ask(&self) -> Result<TagAnswer, Fault> {
        let TagQuestion { tag, accept, .. } = &self.question;
        let (tags, asked) = (&self.tags, AskedAt::now());
        let subject = Subject::Tag(tag.clone(), *accept);
        match answer::ask(&self.caller, &subject, self.by_content, &tags.kept).await {
            Ok(said) => {
                let said = tags.typed(&self.caller.place, &tags.kept, said).await;
                tags.learn(self, &said, asked).await;
                Ok(said)
            }
            Err(fault) => {
                tags.learn_fault(self, &fault, asked).await;
                Err(fault)
            }
        }
    }
}

impl TagAnswer {
    fn found(self, outcome: Outcome) -> TagFound {
        TagFound { digest: self.digest, media_type: self.media_type, size: self.size, age: Duration::ZERO, outcome }
    }
}

fn found(entry: &TagEntry, outcome: Outcome) -> TagFound {
    TagFound { digest: entry.digest, media_type: entry.media_type.clone(), size: entry.size, age: age(entry), outcome }
}
