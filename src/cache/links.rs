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
    hot: moka::sync::Cache<(Place, Digest, Content), Arc<Known>>,
    store: Store,
}

/// What is known of one content in one place: its media type, as each kind of asker was told it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) anonymously: Option<Option<String>>,
    pub(super) with_credentials: Option<Option<String>>,
}

impl Links {
    /// The links that `store`'s catalog holds.
    #[must_use]
    pub fn new(store: Store) -> Self {
        // Shorter than a link's life, so that the catalog's word on expiry is heard.
        let hot = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(Duration::from_secs(3600)).build();
        Self { hot, store }
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(super) fn forget_all(&self) {
        self.hot.invalidate_all();
    }

    pub(super) async fn find(&self, place: &Place, digest: &Digest, content: Content) -> Option<Arc<Known>> {
        let key = (place.clone(), *digest, content);
        if let Some(known) = self.hot.get(&key) {
            return Some(known);
        }
        let links = match self.store.catalog().links(&place.registry, &place.repository, digest).await {
            Ok(links) => links,
            Err(error) => {
                warn!(%error, "the catalog cannot be read; the registry is asked instead");
                return None;
            }
        };
        let mut known = Known::default();
        for link in links.into_iter().filter(|link| link.content == content && is_alive(link)) {
            known.learn(link.learned, link.media_type);
        }
        if known.anonymously.is_none() && known.with_credentials.is_none() {
            return None;
        }
        let known = Arc::new(known);
        self.hot.insert(key, known.clone());
        Some(known)
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
    ) {
        let key = (place.clone(), *digest, content);
        let before = self.hot.get(&key).unwrap_or_default();
        let mut known = (*before).clone();
        known.learn(learned, media_type.clone());
        self.hot.insert(key, Arc::new(known));
        self.store.catalog().note_link(Link {
            registry: place.registry.clone(),
            repository: place.repository.clone(),
            digest: *digest,
            content,
            media_type,
            learned,
            proven: SystemTime::now(),
        });
    }
}

impl Known {
    fn learn(&mut self, learned: Learned, media_type: Option<String>) {
        match learned {
            Learned::Anonymously => self.anonymously = Some(media_type),
            Learned::WithCredentials => self.with_credentials = Some(media_type),
        }
    }
}

/// A clock that went backwards leaves a link alive: its proof is then at most as old as that error.
fn is_alive(link: &Link) -> bool {
    link.proven.elapsed().map_or(true, |age| age < LIFE)
}
