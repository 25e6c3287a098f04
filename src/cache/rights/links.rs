//! Remembers which content is in which repository, and whether that was learned with credentials.
//!
//! A link is no permission: a principal that may read at the place may have what is linked there. A blob's link never
//! answers under `/manifests/`, nor the reverse.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::asked_at::AskedAt;
use super::deleted::Deleted;
use super::place::Place;
use crate::oci::Digest;
use crate::store::{Content, Learned, Link, Store};

/// A link without new proof for so long is not believed (docs/format.md, "The catalog").
const LIFE: Duration = Duration::from_secs(7 * 86_400);
const CAPACITY: u64 = 500_000;

/// The links, hot ones in memory and all of them in the catalog.
#[derive(Clone)]
pub struct Links {
    hot: moka::sync::Cache<(Place, Digest, Content), Arc<Linked>>,
    deleted: Arc<Deleted>,
    store: Store,
}

/// A content that is in a place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked {
    /// Its media type, where the registry said one.
    pub(crate) media_type: Option<String>,
}

impl Links {
    /// The links that `store`'s catalog holds.
    #[must_use]
    pub fn new(store: Store) -> Self {
        // Shorter than a link's life, so that the catalog's word on expiry is heard.
        let hot = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(Duration::from_secs(3600)).build();
        Self { hot, deleted: Arc::new(Deleted::new()), store }
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(crate) fn forget_all(&self) {
        self.hot.invalidate_all();
    }

    /// `digest`, if it is known to be in `place`.
    pub(crate) async fn find(&self, place: &Place, digest: &Digest, content: Content) -> Option<Arc<Linked>> {
        let key = (place.clone(), *digest, content);
        if let Some(linked) = self.hot.get(&key) {
            return Some(linked);
        }
        let asked = AskedAt::now();
        let linked = self.look_up(place, digest, content).await?;
        self.hot.insert(key.clone(), linked.clone());
        if self.deleted.is_since(&key, asked) {
            self.hot.invalidate(&key); // while the catalog was read
            return None;
        }
        Some(linked)
    }

    /// The same by what is in memory.
    pub(crate) fn find_hot(&self, place: &Place, digest: &Digest, content: Content) -> Option<Arc<Linked>> {
        self.hot.get(&(place.clone(), *digest, content))
    }

    async fn look_up(&self, place: &Place, digest: &Digest, content: Content) -> Option<Arc<Linked>> {
        let links = match self.store.catalog().links(&place.registry, &place.repository, digest).await {
            Ok(links) => links,
            Err(error) => {
                warn!(%error, "cannot read the catalog; the registry is asked instead");
                return None;
            }
        };
        let links = links.into_iter().filter(|link| link.content == content && is_alive(link));
        // The latest that says a type, else that none was said.
        let latest = links.max_by_key(|link| (link.media_type.is_some(), link.proven))?;
        Some(Arc::new(Linked { media_type: latest.media_type }))
    }

    /// Whether `registry`'s word is proof enough for stored content. In doubt it is not.
    pub(crate) async fn are_shared(&self, registry: &str, digest: &Digest) -> bool {
        self.store.catalog().is_shared(registry, digest).await.unwrap_or(false)
    }

    /// The registry has it in `place` no longer.
    pub(crate) fn forget(&self, place: &Place, digest: &Digest, content: Content) {
        let key = (place.clone(), *digest, content);
        self.deleted.note(&key);
        self.hot.invalidate(&key);
        self.store.catalog().forget_content(&place.registry, &place.repository, digest, content);
    }

    /// The registry has said that it is in `place`, when it was `asked`. What was deleted since stays forgotten.
    pub(crate) fn note(
        &self,
        place: &Place,
        digest: &Digest,
        content: Content,
        media_type: Option<String>,
        learned: Learned,
        asked: AskedAt,
    ) {
        let key = (place.clone(), *digest, content);
        if self.deleted.is_since(&key, asked) {
            return;
        }
        self.hot.entry(key.clone()).and_upsert_with(|before| {
            let before = before.and_then(|before| before.into_value().media_type.clone());
            Arc::new(Linked { media_type: media_type.clone().or(before) })
        });
        self.store.catalog().record_link(Link {
            registry: place.registry.clone(),
            repository: place.repository.clone(),
            digest: *digest,
            content,
            media_type,
            learned,
            proven: asked.time,
        });
        if self.deleted.is_since(&key, asked) {
            self.forget(place, digest, content); // meanwhile
        }
    }
}

/// A clock that went backwards leaves a link alive: its proof is then at most as old as that error.
fn is_alive(link: &Link) -> bool {
    link.proven.elapsed().map_or(true, |age| age < LIFE)
}
