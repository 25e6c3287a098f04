//! Remembers what registries last said that tags are: hot answers in memory, all of them in the catalog.
//!
//! Answers are kept by (registry, repository, tag, class of Accept). The class decides who shares an answer;
//! only when the registry is silent may a caller get another class's answer of a type that it accepts.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::writes::Writes;
use crate::cache::rights::place::Place;
use crate::oci::{Accept, Digest, MediaType, Tag};
use crate::store::{Learned, Store, TagEntry};

const CAPACITY: u64 = 200_000;
/// So many classes with types of their clients' own are kept for one tag, in memory: clients can invent as many as they
/// like.
const OTHERS: usize = 8;

/// The last known answers.
pub(crate) struct TagMemory {
    hot: moka::sync::Cache<(Place, Tag), Arc<Vec<TagEntry>>>,
    store: Store,
    writes: Writes,
}

impl TagMemory {
    pub(crate) fn new(store: Store, writes: Writes) -> Self {
        Self { hot: moka::sync::Cache::builder().max_capacity(CAPACITY).build(), store, writes }
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(crate) fn forget_all(&self) {
        self.hot.invalidate_all();
    }

    /// All answers for a tag, of whatever class.
    pub(crate) async fn entries(&self, place: &Place, tag: &Tag) -> Arc<Vec<TagEntry>> {
        let key = (place.clone(), tag.clone());
        if let Some(entries) = self.hot.get(&key) {
            return entries;
        }
        let era = self.writes.era(place, tag);
        match self.store.catalog().tags(&place.registry, &place.repository, tag).await {
            Ok(entries) => {
                let entries = Arc::new(entries);
                self.hot.insert(key.clone(), entries.clone());
                if !self.writes.is_still(era, place, tag) {
                    self.hot.invalidate(&key); // the catalog was read before it was written, perhaps
                }
                entries
            }
            Err(error) => {
                warn!(%error, "the catalog cannot be read; the registry is asked instead");
                Arc::default()
            }
        }
    }

    /// Notes an answer, in the place of the last one of its class.
    pub(crate) async fn note(&self, place: &Place, entry: TagEntry) {
        self.entries(place, &entry.tag).await; // so that what the catalog holds of other classes stays
        self.hot.entry((place.clone(), entry.tag.clone())).and_upsert_with(|before| {
            let mut entries = before.map(|before| (*before.into_value()).clone()).unwrap_or_default();
            entries.retain(|old| (old.accept, old.learned) != (entry.accept, entry.learned));
            entries.retain(|old| !is_overtaken(old, &entry));
            if entry.accept.has_others() && entries.iter().filter(|old| old.accept.has_others()).count() >= OTHERS {
                let oldest = entries.iter().position(|old| old.accept.has_others());
                oldest.map(|oldest| entries.remove(oldest));
            }
            entries.push(entry.clone());
            Arc::new(entries)
        });
        if !entry.accept.has_others() {
            self.store.catalog().record_tag(entry);
        }
    }

    /// Forgets every tag of the place that means this manifest. Few are deleted, so all that is in memory is looked through.
    pub(crate) fn forget_manifest(&self, place: &Place, digest: &Digest) {
        let means = |entries: &[TagEntry]| entries.iter().any(|entry| entry.digest == *digest);
        for (key, entries) in &self.hot {
            if key.0 == *place && means(&entries) {
                self.hot.invalidate(&*key);
            }
        }
    }

    /// Forgets what a tag is: all of it, or for one class and one way of learning.
    pub(crate) fn forget(&self, place: &Place, tag: &Tag, only: Option<(Accept, Learned)>) {
        self.hot.invalidate(&(place.clone(), tag.clone()));
        self.store.catalog().forget_tag(&place.registry, &place.repository, tag, only);
    }
}

/// Whether the registry has said since that the tag means something else than was pushed.
fn is_overtaken(old: &TagEntry, entry: &TagEntry) -> bool {
    old.accept == Accept::AS_PUSHED && old.digest != entry.digest && old.checked <= entry.checked
}

/// The latest answer of that class; or what was pushed since, of a type that the class has.
pub(crate) fn known(entries: &[TagEntry], accept: Accept) -> Option<&TagEntry> {
    let is_pushed = |entry: &&TagEntry| {
        entry.accept == Accept::AS_PUSHED
            && MediaType::parse(&entry.media_type).is_some_and(|media_type| accept.admits(media_type))
    };
    latest(entries, accept).into_iter().chain(entries.iter().find(is_pushed)).min_by_key(|entry| age(entry))
}

/// The latest answer of that class.
pub(crate) fn latest(entries: &[TagEntry], accept: Accept) -> Option<&TagEntry> {
    entries.iter().filter(|entry| entry.accept == accept).min_by_key(|entry| age(entry))
}

/// Another class's answer that this caller said it takes: an index before a single manifest, then the latest.
pub(crate) fn stand_in<'a>(entries: impl Iterator<Item = &'a TagEntry>, accept: Accept) -> Option<&'a TagEntry> {
    entries
        .filter_map(|entry| MediaType::parse(&entry.media_type).map(|media_type| (media_type, entry)))
        .filter(|(media_type, _)| accept.admits(*media_type))
        .max_by_key(|(media_type, entry)| (media_type.is_index(), Reverse(age(entry))))
        .map(|(_, entry)| entry)
}

/// A clock that went backwards makes an answer old, so that it is asked again.
pub(crate) fn age(entry: &TagEntry) -> Duration {
    entry.checked.elapsed().unwrap_or(Duration::MAX)
}
