//! Keeps verified manifests: hot ones in memory, all of them in the store.

use bytes::Bytes;

use crate::cache::inventory;
use crate::host::{self, TaskGroup};
use crate::oci::{Digest, MANIFEST_LIMIT};
use crate::store::{self, Store};

/// Hot manifests may take this much memory, or a sixteenth of what the process may use, if that is less.
const HOT_BYTES: u64 = 64 << 20;

/// The manifests that are kept. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct ManifestStore {
    hot: moka::sync::Cache<Digest, Hot>,
    store: Store,
    tasks: TaskGroup,
}

/// A manifest in memory.
#[derive(Clone)]
struct Hot {
    bytes: Bytes,
    /// An ill disk did not take it; it is offered again once that is well.
    is_owed: bool,
}

impl ManifestStore {
    pub(crate) fn new(store: Store, tasks: TaskGroup) -> Self {
        let weigh = |_: &Digest, hot: &Hot| u32::try_from(hot.bytes.len()).unwrap_or(u32::MAX).saturating_add(200);
        let most = HOT_BYTES.min(host::memory_limit() / 16);
        Self { hot: moka::sync::Cache::builder().weigher(weigh).max_capacity(most).build(), store, tasks }
    }

    /// Forgets what is in memory: the store has changed below it.
    pub(crate) fn forget_all(&self) {
        self.hot.invalidate_all();
    }

    /// The bytes, if they are in memory.
    pub(crate) fn find_hot(&self, digest: &Digest) -> Option<Bytes> {
        self.hot.get(digest).map(|hot| hot.bytes)
    }

    /// The bytes, if they are here: in memory, else on disk.
    pub(crate) async fn find(&self, digest: &Digest) -> Option<Bytes> {
        self.store.catalog().used(digest);
        if let Some(Hot { bytes, is_owed }) = self.hot.get(digest) {
            if is_owed && self.store.disk_fault().is_none() {
                self.offer_again(*digest, &bytes);
            }
            return Some(bytes);
        }
        let wanted = *digest;
        let read = self.store.patiently("read a manifest in", move |store| Ok(read(store, &wanted))).await.ok()??;
        self.hot.insert(*digest, Hot { bytes: read.clone(), is_owed: false });
        Some(read)
    }

    /// Keeps verified bytes. A disk that cannot take them costs the next pull, not this one. What was begun goes on to its end.
    pub(crate) async fn keep(&self, digest: Digest, bytes: &Bytes) {
        let (manifests, bytes) = (self.clone(), bytes.clone());
        let kept = self.tasks.spawn(async move { manifests.put(digest, &bytes).await });
        let _ = kept.await; // a panic was reported when it happened
    }

    async fn put(&self, digest: Digest, bytes: &Bytes) {
        self.hot.insert(digest, Hot { bytes: bytes.clone(), is_owed: false });
        let kept = bytes.clone();
        let put = self.store.patiently("store a manifest in", move |store| store.put(&digest, &kept).map(drop)).await;
        if let Err(error) = put {
            if matches!(error, store::Error::TooLarge { .. }) {
                tracing::info!(%digest, %error, "this manifest is larger than the cache; it is served from memory");
            } else if let Some(unlogged) = self.store.tells_of_failure() {
                tracing::error!(%digest, error = crate::telemetry::chain(&error), unlogged, "a manifest could not be stored; it is served from memory");
            }
            // What no disk would take, such as one larger than the cache, is not tried at each hit.
            let is_owed = self.store.disk_fault().is_some();
            self.hot.insert(digest, Hot { bytes: bytes.clone(), is_owed });
        }
        inventory::arrived(&self.store, &self.tasks, &digest, bytes).await;
    }

    /// Stores in the background what an ill disk did not take: it may be hot for months, and gone with a restart.
    fn offer_again(&self, digest: Digest, bytes: &Bytes) {
        let (manifests, bytes) = (self.clone(), bytes.clone());
        self.hot.insert(digest, Hot { bytes: bytes.clone(), is_owed: false }); // once, however many ask
        self.tasks.spawn(async move { manifests.put(digest, &bytes).await });
    }
}

/// Reads a whole stored manifest and proves it again: it is small, and what is in memory is believed.
fn read(store: &Store, digest: &Digest) -> Option<Bytes> {
    let bytes = store.read_whole(digest, MANIFEST_LIMIT).ok()??;
    if Digest::of(digest.algorithm(), &bytes) != *digest {
        let (registry, repository) = store.catalog().place(digest).unzip();
        tracing::error!(registry, repository, %digest, "a stored manifest is damaged; it is fetched again");
        if let Err(error) = store.remove(digest) {
            tracing::error!(registry, repository, %digest, %error, "the damaged manifest cannot be removed");
        }
        return None;
    }
    Some(bytes.into())
}
