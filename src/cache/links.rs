//! What is known to be where: a content in a repository, and whether it was learned with credentials.
//!
//! A link learned anonymously answers everybody; one learned with credentials answers who holds a grant
//! for the place. A blob's link never answers under `/manifests/`, nor the reverse.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::cache::Place;
use crate::oci::Digest;
use crate::store::{Content, Learned, Link, Store};

/// A link without new proof for so long is not believed (DESIGN.md, Links).
const LIFE: Duration = Duration::from_secs(7 * 86_400);
const CAPACITY: u64 = 500_000;

/// The links, hot ones in memory and all of them in the catalog.
#[derive(Clone)]
pub struct Links {
    hot: moka::sync::Cache<(Place, Digest, Content), Arc<Remembered>>,
    /// Places that turned an anonymous caller away, and when: what was learned there without credentials before
    /// is not believed any more.
    denied: moka::sync::Cache<Place, SystemTime>,
    store: Store,
}

/// What is known of one content in one place: its media type, as each kind of asker was told it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) anonymously: Option<Option<String>>,
    pub(super) with_credentials: Option<Option<String>>,
}

/// The same with the time of the anonymous proof.
#[derive(Clone, Debug, Default)]
struct Remembered {
    anonymously: Option<(Option<String>, SystemTime)>,
    with_credentials: Option<Option<String>>,
}

impl Links {
    /// The links that `store`'s catalog holds.
    #[must_use]
    pub fn new(store: Store) -> Self {
        // Shorter than a link's life, so that the catalog's word on expiry is heard.
        let hot = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(Duration::from_secs(3600)).build();
        let denied = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(LIFE).build();
        Self { hot, denied, store }
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(super) fn forget_all(&self) {
        self.hot.invalidate_all();
    }

    /// The place turned an anonymous caller away.
    pub(super) fn deny_anonymous(&self, place: &Place) {
        self.denied.insert(place.clone(), SystemTime::now());
    }

    /// Whether something learned without credentials at `when` is still believed.
    pub(super) fn is_believed(&self, place: &Place, when: SystemTime) -> bool {
        self.denied.get(place).is_none_or(|denied| when > denied)
    }

    pub(super) async fn find(&self, place: &Place, digest: &Digest, content: Content) -> Option<Known> {
        let key = (place.clone(), *digest, content);
        let known = match self.hot.get(&key) {
            Some(known) => known,
            None => {
                let known = self.look_up(place, digest, content).await?;
                self.hot.insert(key, known.clone());
                known
            }
        };
        Some(self.believed(place, &known))
    }

    /// What is known in memory.
    pub(super) fn find_hot(&self, place: &Place, digest: &Digest, content: Content) -> Option<Known> {
        self.hot.get(&(place.clone(), *digest, content)).map(|known| self.believed(place, &known))
    }

    fn believed(&self, place: &Place, known: &Remembered) -> Known {
        let anonymously = known.anonymously.clone().filter(|(_, when)| self.is_believed(place, *when));
        let with_credentials = known.with_credentials.clone();
        Known { anonymously: anonymously.map(|(media_type, _)| media_type), with_credentials }
    }

    async fn look_up(&self, place: &Place, digest: &Digest, content: Content) -> Option<Arc<Remembered>> {
        let links = match self.store.catalog().links(&place.registry, &place.repository, digest).await {
            Ok(links) => links,
            Err(error) => {
                warn!(%error, "the catalog cannot be read; the registry is asked instead");
                return None;
            }
        };
        let mut known = Remembered::default();
        for link in links.into_iter().filter(|link| link.content == content && is_alive(link)) {
            known.learn(link.learned, link.media_type, link.proven);
        }
        (known.anonymously.is_some() || known.with_credentials.is_some()).then(|| Arc::new(known))
    }

    /// Whether `registry`'s HEAD is proof enough for stored content. In doubt it is not.
    pub(super) async fn are_shared(&self, registry: &str, digest: &Digest) -> bool {
        self.store.catalog().is_shared(registry, digest).await.unwrap_or(false)
    }

    pub(super) fn note(
        &self,
        place: &Place,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        learned: Learned,
        proven: SystemTime,
    ) {
        let key = (place.clone(), *digest, content);
        self.hot.entry(key).and_upsert_with(|before| {
            let mut known = before.map(|before| (*before.into_value()).clone()).unwrap_or_default();
            known.learn(learned, media_type.clone(), proven);
            Arc::new(known)
        });
        self.store.catalog().note_link(Link {
            registry: place.registry.clone(),
            repository: place.repository.clone(),
            digest: *digest,
            content,
            media_type,
            learned,
            proven,
        });
    }
}

impl Remembered {
    fn learn(&mut self, learned: Learned, media_type: Option<String>, proven: SystemTime) {
        match learned {
            Learned::Anonymously => self.anonymously = Some((media_type, proven)),
            Learned::WithCredentials => self.with_credentials = Some(media_type),
        }
    }
}

/// A clock that went backwards leaves a link alive: its proof is then at most as old as that error.
fn is_alive(link: &Link) -> bool {
    link.proven.elapsed().map_or(true, |age| age < LIFE)
}
