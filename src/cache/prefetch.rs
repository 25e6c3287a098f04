//! Fetches the other blobs of an image ahead, once a client has begun with its layers.
//!
//! Never on a manifest or its configuration alone: scanners and update bots read those and pull nothing. Never
//! for a client that begins with ranges: it wants pieces. And only what the caller itself may read: its own
//! source is asked, with its own rights, as if it had asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::blobs::{BlobFound, BlobLookup};
use super::caller::{Asker, Requester};
use super::fill::Waiter;
use super::rights::place::Place;
use super::rights::principal::Principal;
use super::rights::reader::PlaceReader;
use crate::host::TaskGroup;
use crate::oci::{Digest, Listing};

/// How long the listing of a manifest is remembered, and that its blobs were fetched ahead.
const LATELY: Duration = Duration::from_secs(600);
/// How long a caller that has begun with ranges counts as one that wants pieces.
const PIECES: Duration = Duration::from_secs(60);
/// A blob that is fetched ahead has to bring so many bytes in so long: else it gives up its turn to others.
const LEAST: u64 = 256 << 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Threat: a manifest that lists endlessly. No image has so many layers.
const BLOBS_LIMIT: usize = 256;
const MANIFESTS: u64 = 20_000;

/// Fetches blobs ahead of their demand.
pub(crate) struct Prefetcher {
    blobs: Arc<BlobLookup>,
    tasks: TaskGroup,
    listings: Listings,
    turns: Mutex<HashMap<Arc<str>, Turns>>,
}

/// What the manifests served lately list, and for which callers it is being fetched.
struct Listings {
    seen: moka::sync::Cache<(Place, Digest), ()>,
    by_blob: moka::sync::Cache<(Place, Digest), Arc<Listed>>,
    begun: moka::sync::Cache<(Place, Asker, Digest), ()>,
    pieces: moka::sync::Cache<(Place, Principal, Digest), ()>,
}

#[derive(Debug)]
struct Listed {
    manifest: Digest,
    /// The configuration first, then the layers.
    blobs: Vec<Digest>,
}

/// One registry's turns.
#[derive(Clone, Debug)]
struct Turns {
    limit: usize,
    free: Arc<Semaphore>,
}

impl Listings {
    fn new() -> Self {
        let lately = |capacity| moka::sync::Cache::builder().max_capacity(capacity).time_to_live(LATELY);
        Self {
            seen: lately(MANIFESTS).build(),
            by_blob: moka::sync::Cache::builder().max_capacity(MANIFESTS * 10).time_to_live(LATELY).build(),
            begun: moka::sync::Cache::builder().max_capacity(MANIFESTS).time_to_live(LATELY).build(),
            pieces: moka::sync::Cache::builder().max_capacity(MANIFESTS).time_to_live(PIECES).build(),
        }
    }

    /// As [`Prefetcher::note`].
    fn note(&self, place: &Place, manifest: &Digest, bytes: &[u8]) {
        let key = (place.clone(), *manifest);
        if self.seen.contains_key(&key) {
            return;
        }
        self.seen.insert(key, ());
        let blobs = Listing::of(bytes).blobs;
        if blobs.len() < 2 || blobs.len() > BLOBS_LIMIT {
            return;
        }
        let listed = Arc::new(Listed { manifest: *manifest, blobs });
        for blob in &listed.blobs {
            self.by_blob.insert((place.clone(), *blob), listed.clone());
        }
    }

    /// The image that a layer belongs to. An image's configuration, which comes first, is no layer.
    fn of_layer(&self, place: &Place, layer: &Digest) -> Option<Arc<Listed>> {
        self.by_blob.get(&(place.clone(), *layer)).filter(|listed| listed.blobs.first() != Some(layer))
    }
}

impl Prefetcher {
    pub(crate) fn new(blobs: Arc<BlobLookup>, tasks: TaskGroup) -> Self {
        Self { blobs, tasks, listings: Listings::new(), turns: Mutex::default() }
    }

    /// A manifest was given to a caller at `place`.
    pub(crate) fn note(&self, place: &Place, manifest: &Digest, bytes: &[u8]) {
        self.listings.note(place, manifest, bytes);
    }

    fn turns(&self, registry: &Arc<str>, limit: usize) -> Arc<Semaphore> {
        let mut all = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = all.get(registry).filter(|turns| turns.limit == limit).cloned();
        let turns = turns.unwrap_or_else(|| Turns { limit, free: Arc::new(Semaphore::new(limit)) });
        all.insert(registry.clone(), turns.clone());
        turns.free
    }

    /// A reader asked for pieces of a blob.
    pub(crate) fn wants_pieces(&self, reader: PlaceReader<'_>, blob: &Digest) {
        if let Some(listed) = self.listings.of_layer(reader.place, blob) {
            self.listings.pieces.insert((reader.place.clone(), reader.principal.clone(), listed.manifest), ());
        }
    }

    /// As [`Cache::prefetch`](super::Cache::prefetch).
    pub(crate) fn begin(&self, requester: &impl Requester, blob: &Digest, at_once: impl FnOnce() -> usize) {
        let reader = requester.reader();
        let Some(listed) = self.listings.of_layer(reader.place, blob) else { return };
        let limit = at_once();
        if limit == 0 || !self.blobs.has_files_to_spare() {
            return;
        }
        let caller = requester.caller();
        let pieces = (caller.place.clone(), caller.principal.clone(), listed.manifest);
        let key = (caller.place.clone(), caller.asker(), listed.manifest);
        if self.listings.pieces.contains_key(&pieces) || self.listings.begun.contains_key(&key) {
            return;
        }
        self.listings.begun.insert(key, ());
        let (blobs, caller, blob) = (self.blobs.clone(), caller.clone(), *blob);
        let turns = self.turns(&caller.place.registry, limit);
        let tasks = self.tasks.clone();
        self.tasks.spawn_until_stop(async move {
            for sibling in listed.blobs.iter().copied().filter(|sibling| *sibling != blob) {
                let Ok(turn) = turns.clone().acquire_owned().await else { return };
                if blobs.is_at_hand(&caller, &sibling).await {
                    continue;
                }
                let (blobs, caller) = (blobs.clone(), caller.clone());
                tasks.spawn_until_stop(async move {
                    match blobs.find(&caller, &sibling).await {
                        Ok(BlobFound::Filling(waiter, _)) => see_through(waiter).await,
                        Ok(BlobFound::Stored(..) | BlobFound::Unstorable { .. }) => {}
                        Err(fault) => tracing::debug!(digest = %sibling, %fault, "not fetched ahead"),
                    }
                    drop(turn);
                });
            }
        });
    }
}

/// Waits for a fill, which may have no other waiter, as long as it brings something.
async fn see_through(waiter: Waiter) {
    loop {
        let landed = waiter.landed();
        let over = tokio::time::timeout(WINDOW, waiter.verified()).await.is_ok();
        if over || waiter.landed() - landed < LEAST {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_layer_leads_to_its_image_and_a_configuration_does_not() {
        let place = |repository: &str| Place { registry: "a".into(), repository: repository.parse().unwrap() };
        let digest = |text: &str| Digest::of(Algorithm::Sha256, text.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[{{"digest":"{}"}},{{"digest":"{}"}}]}}"#,
            digest("config"),
            digest("one"),
            digest("two"),
        );
        let listings = Listings::new();
        listings.note(&place("app"), &digest("manifest"), manifest.as_bytes());
        let found = listings.of_layer(&place("app"), &digest("two")).unwrap();
        assert_eq!(found.blobs, [digest("config"), digest("one"), digest("two")]);
        assert!(listings.of_layer(&place("app"), &digest("config")).is_none());
        assert!(listings.of_layer(&place("other"), &digest("two")).is_none(), "another place");
    }

    #[test]
    fn no_more_is_fetched_ahead_than_an_image_has() {
        let place = Place { registry: "a".into(), repository: "app".parse().unwrap() };
        let digest = |number: usize| Digest::of(Algorithm::Sha256, &number.to_le_bytes());
        for (layers, is_noted) in [(BLOBS_LIMIT - 1, true), (BLOBS_LIMIT, false)] {
            let listed: Vec<_> = (1..=layers).map(|number| format!(r#"{{"digest":"{}"}}"#, digest(number))).collect();
            let config = format!(r#"{{"digest":"{}"}}"#, digest(0));
            let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, listed.join(","));
            let listings = Listings::new();
            listings.note(&place, &Digest::of(Algorithm::Sha256, manifest.as_bytes()), manifest.as_bytes());
            assert_eq!(listings.of_layer(&place, &digest(1)).is_some(), is_noted, "{layers} layers");
        }
    }
}
