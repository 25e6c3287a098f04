//! A tag for a caller: the last known answer while it is fresh, else the registry's word by HEAD, else the
//! last known answer after all.
//!
//! Answers are kept by (registry, repository, tag, class of Accept). The class decides who shares an answer;
//! only when the registry is silent may a caller get another class's answer of a type that it accepts.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::cache::{Asked, Standing};
use super::manifests::{MISSING_FOR, MISSING_LIMIT};
use super::rights::caller::Asker;
use super::source::stopped;
use super::tag_answer::{Asking, Came, Said200};
use super::whole::is_schema1;
use super::{Cache, Caller, Fault, Freshness, Place, Principal, Reach, Retry, Said};
use crate::host::{Coalesced, Flights, within_since};
use crate::oci::{Accept, Digest, MediaType, Tag};
use crate::store::{Content, Learned, Store, TagEntry};
use crate::telemetry::Outcome;

/// A client is answered within this time in any case (containerd gives up after 30 s).
const PATIENCE: Duration = Duration::from_secs(25);
const CAPACITY: u64 = 200_000;

/// A tag, and how it is asked for.
#[derive(Clone, Debug)]
pub struct Question {
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

/// Hot answers, and what is being asked now.
#[derive(Clone)]
pub(crate) struct Tags {
    hot: moka::sync::Cache<(Place, Tag), Arc<Vec<TagEntry>>>,
    asked: Flights<(Place, Tag, Accept, Asker, Asking, bool), Result<Said200, Fault>>,
    missing: moka::sync::Cache<(Place, Tag, Accept), Fault>,
    store: Store,
}

/// The registry took longer than a client waits.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the registry has not answered within {:.1} s", .0.as_secs_f64())]
pub struct NoAnswer(pub Duration);

impl Tags {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            hot: moka::sync::Cache::builder().max_capacity(CAPACITY).build(),
            asked: Flights::new(),
            missing: moka::sync::Cache::builder().max_capacity(MISSING_LIMIT).time_to_live(MISSING_FOR).build(),
            store,
        }
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(crate) fn forget_all(&self) {
        self.hot.invalidate_all();
    }

    async fn entries(&self, place: &Place, tag: &Tag) -> Arc<Vec<TagEntry>> {
        let key = (place.clone(), tag.clone());
        if let Some(entries) = self.hot.get(&key) {
            return entries;
        }
        match self.store.catalog().tags(&place.registry, &place.repository, tag).await {
            Ok(entries) => {
                let entries = Arc::new(entries);
                self.hot.insert(key, entries.clone());
                entries
            }
            Err(error) => {
                warn!(%error, "cannot read the catalog; the registry is asked instead");
                Arc::default()
            }
        }
    }

    async fn note(&self, entry: TagEntry) {
        let place = Place { registry: entry.registry.clone(), repository: entry.repository.clone() };
        self.entries(&place, &entry.tag).await; // so that what the catalog holds of other classes stays
        self.hot.entry((place.clone(), entry.tag.clone())).and_upsert_with(|before| {
            let mut entries = before.map(|before| (*before.into_value()).clone()).unwrap_or_default();
            entries.retain(|old| (old.accept, old.learned) != (entry.accept, entry.learned));
            entries.push(entry.clone());
            Arc::new(entries)
        });
        self.missing.invalidate(&(place, entry.tag.clone(), entry.accept));
        self.store.catalog().record_tag(entry);
    }

    /// A 404 of a moment ago; only anonymous callers share it.
    fn known_missing(&self, caller: &Caller, tag: &Tag, accept: Accept) -> Option<Fault> {
        if caller.principal != Principal::Anonymous {
            return None;
        }
        self.missing.get(&(caller.place.clone(), tag.clone(), accept))
    }

    /// Forgets what a tag is: all of it, or for one class and one way of learning.
    fn forget(&self, place: &Place, tag: &Tag, only: Option<(Accept, Learned)>) {
        self.hot.invalidate(&(place.clone(), tag.clone()));
        self.store.catalog().forget_tag(&place.registry, &place.repository, tag, only);
    }
}

impl Cache {
    /// Finds what a tag means for the caller. Cancel-safe: an asking under way goes on.
    ///
    /// # Errors
    /// What the source answered instead, where no last known answer may stand in for it.
    pub async fn tag(&self, caller: &Caller, question: &Question) -> Result<TagFound, Fault> {
        let entries = self.tags.entries(&caller.place, &question.tag).await;
        let standing = self.standing(caller).await;
        let fresh = |entry: &&TagEntry| standing == Standing::Good && age(entry) < question.freshness.fresh_for;
        if let Some(entry) = latest(&entries, question.accept).filter(fresh) {
            return Ok(found(entry, Outcome::Hit));
        }
        Box::pin(self.tag_at_source(caller, question, &entries, standing)).await // see `Cache::blob`
    }

    async fn tag_at_source(
        &self,
        caller: &Caller,
        question: &Question,
        entries: &[TagEntry],
        standing: Standing,
    ) -> Result<TagFound, Fault> {
        let Question { tag, accept, freshness, asking } = question;
        // Who might read lately is told the last answer if the registry cannot be asked, and not before.
        let may = |_: &&TagEntry| standing > Standing::Unknown;
        let own = latest(entries, *accept).filter(may);
        if let Some(fault) = self.tags.known_missing(caller, tag, *accept) {
            return Err(fault);
        }
        let stand_in = own.or_else(|| stand_in(entries.iter().filter(may), *accept));
        if let Some(entry) = stand_in.filter(|_| caller.source.is_away()) {
            return Ok(found(entry, Outcome::Stale));
        }
        // A tag that nobody knows yet: one GET tells all. Else HEAD, which is not counted where pulls are.
        let by_content = *asking == Asking::Content && entries.iter().all(|entry| entry.accept != *accept);
        let wait = if stand_in.is_some() { freshness.deadline } else { PATIENCE };
        let begun = Instant::now();
        let source = &*caller.source;
        let asked = within_since(begun, wait, source, self.ask_tag(caller, question, by_content)).await;
        let asked = match asked {
            // The leader's token may have expired; this one has its own.
            Some(Coalesced::Joined(Err(fault))) if fault.said == Said::Denied => {
                let alone = within_since(begun, wait, source, self.ask_and_learn(caller, question, by_content));
                alone.await.map(Coalesced::Led)
            }
            asked => asked,
        };
        let silence = match asked {
            Some(Coalesced::Led(Ok(said))) => {
                return Ok(said.found(if own.is_some() { Outcome::Revalidated } else { Outcome::Miss }));
            }
            Some(Coalesced::Joined(Ok(said))) => {
                return Ok(said.found(if own.is_some() { Outcome::Revalidated } else { Outcome::Collapsed }));
            }
            Some(Coalesced::Led(Err(fault)) | Coalesced::Joined(Err(fault))) if fault.said != Said::Nothing => {
                return Err(fault);
            }
            Some(Coalesced::Led(Err(fault)) | Coalesced::Joined(Err(fault))) => fault,
            None => Fault::new(Retry::Again, NoAnswer(wait)),
        };
        let Some(entry) = stand_in else { return Err(silence) };
        if standing < Standing::Good && !self.may_still(caller, &silence).await {
            return Err(silence);
        }
        info!(
            registry = %caller.place.registry, repository = %caller.place.repository, %tag, fault = %silence,
            "the registry failed; its last known answer is served"
        );
        Ok(found(entry, Outcome::Stale))
    }

    /// A push or delete went through: what the tag meant may no longer hold.
    pub fn forget_tag(&self, place: &Place, tag: &Tag) {
        self.tags.missing.invalidate_all();
        self.tags.forget(place, tag, None);
    }

    async fn ask_tag(
        &self,
        caller: &Caller,
        question: &Question,
        by_content: bool,
    ) -> Coalesced<Result<Said200, Fault>> {
        let Question { tag, accept, asking, .. } = question;
        let key = (caller.place.clone(), tag.clone(), *accept, caller.asker(), *asking, by_content);
        let (cache, leader, question) = (self.clone(), caller.clone(), question.clone());
        let flight = self.tags.asked.run(key, caller.source.fresh_since(), move || async move {
            // Look again: an earlier flight notes what it learned before it makes room for this one.
            match cache.fresh_now(&leader, &question).await {
                Some(said) => Ok(said),
                None => cache.ask_and_learn(&leader, &question, by_content).await,
            }
        });
        flight.await.unwrap_or_else(stopped)
    }

    /// The last answer, if it is fresh and the caller may have it by now.
    async fn fresh_now(&self, caller: &Caller, question: &Question) -> Option<Said200> {
        let Question { tag, accept, freshness, .. } = question;
        let entries = self.tags.entries(&caller.place, tag).await;
        let entry = latest(&entries, *accept).filter(|entry| age(entry) < freshness.fresh_for)?;
        let TagEntry { digest, media_type, size, .. } = entry.clone();
        (self.standing(caller).await == Standing::Good).then_some(Said200 {
            digest,
            media_type,
            size,
            came: Came::Named,
        })
    }

    async fn ask_and_learn(&self, caller: &Caller, question: &Question, by_content: bool) -> Result<Said200, Fault> {
        let Question { tag, accept, asking, .. } = question;
        let asked = Asked::now();
        let said = self.tag_word(caller, *asking, by_content).await;
        match &said {
            Ok(said) => self.learn_tag(caller, tag, *accept, said, asked).await,
            Err(fault) => self.learn_fault(caller, tag, *accept, fault),
        }
        said
    }

    /// A 200 for a tag proves the caller's right to read here, and that the manifest is here.
    async fn learn_tag(&self, caller: &Caller, tag: &Tag, accept: Accept, said: &Said200, asked: Asked) {
        let (media_type, yes) = (Some(said.media_type.clone()), (Reach::Place, asked));
        match said.came {
            Came::Unkept => return,
            Came::Named if is_schema1(Some(&said.media_type)) => return,
            Came::Delivered => self.delivered(caller, &said.digest, Content::Manifest, media_type, yes),
            Came::Named => {
                let shared = self.links.are_shared(&caller.place.registry, &said.digest).await;
                self.vouched(caller, &said.digest, Content::Manifest, media_type, shared, yes);
            }
        }
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
        self.tags.note(entry).await;
    }

    /// A 404 takes away what this caller could see, and nothing that others learned with other rights: many
    /// registries say 404 to whoever may not know that a repository is there.
    fn learn_fault(&self, caller: &Caller, tag: &Tag, accept: Accept, fault: &Fault) {
        if fault.said == Said::Missing {
            if caller.principal.is_nobody() || self.grants.age(&caller.place, &caller.principal).is_some() {
                self.tags.forget(&caller.place, tag, Some((accept, caller.principal.learns())));
            }
            if caller.principal == Principal::Anonymous {
                self.tags.missing.insert((caller.place.clone(), tag.clone(), accept), fault.clone());
            }
        }
        self.heed(caller, fault);
    }
}

impl Said200 {
    fn found(self, outcome: Outcome) -> TagFound {
        TagFound { digest: self.digest, media_type: self.media_type, size: self.size, age: Duration::ZERO, outcome }
    }
}

/// The latest answer of that class.
fn latest(entries: &[TagEntry], accept: Accept) -> Option<&TagEntry> {
    entries.iter().filter(|entry| entry.accept == accept).min_by_key(|entry| age(entry))
}

/// Another class's answer that this caller said it takes: an index before a single manifest, then the latest.
fn stand_in<'a>(entries: impl Iterator<Item = &'a TagEntry>, accept: Accept) -> Option<&'a TagEntry> {
    entries
        .filter_map(|entry| MediaType::parse(&entry.media_type).map(|media_type| (media_type, entry)))
        .filter(|(media_type, _)| accept.admits(*media_type))
        .max_by_key(|(media_type, entry)| (media_type.is_index(), Reverse(age(entry))))
        .map(|(_, entry)| entry)
}

/// A clock that went backwards makes an answer old, so that it is asked again.
fn age(entry: &TagEntry) -> Duration {
    entry.checked.elapsed().unwrap_or(Duration::MAX)
}

fn found(entry: &TagEntry, outcome: Outcome) -> TagFound {
    TagFound { digest: entry.digest, media_type: entry.media_type.clone(), size: entry.size, age: age(entry), outcome }
}
