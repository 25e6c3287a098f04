//! A manifest by digest for a caller: small, fetched whole, verified, byte-exact for ever after.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cache::{Asked, Released, Standing};
use super::proofs::is_unproven;
use super::rights::caller::Asker;
use super::source::stopped;
use super::whole::{NoManifest, WrongManifest, media_type_of};
use super::{Cache, Caller, Fault, Place, Principal, Proof, Reach, Retry, Said, Whole, inventory};
use crate::host::{self, Coalesced, Flights};
use crate::oci::{Digest, Look, kept_type};
use crate::store::Content;
use crate::telemetry::Outcome;

/// Hot manifests may take this much memory, or a sixteenth of what the process may use, if that is less.
const HOT_BYTES: u64 = 64 << 20;
/// How long a 404 is remembered for anonymous callers.
pub(crate) const MISSING_FOR: Duration = Duration::from_secs(5);
/// So many 404s at most: each keeps the registry's words, up to 64 KiB.
pub(crate) const MISSING_LIMIT: u64 = 1000;

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub struct ManifestFound {
    /// What it is.
    pub digest: Digest,
    /// The bytes as the registry sent them.
    pub bytes: Bytes,
    /// `Content-Type`.
    pub media_type: String,
    /// Where it came from; what is no manifest of a known shape is a bypass.
    pub outcome: Outcome,
}

/// Hot manifests, and what is being asked now.
#[derive(Clone)]
pub(crate) struct Manifests {
    hot: moka::sync::Cache<Digest, Hot>,
    own: Flights<(Place, Digest, Asker, bool), Result<(Whole, bool), Fault>>,
    shared: Flights<(Arc<str>, Digest), Result<Whole, Fault>>,
    missing: moka::sync::Cache<(Place, Digest, Content), Fault>,
}

/// A manifest in memory.
#[derive(Clone)]
struct Hot {
    bytes: Bytes,
    /// An ill disk did not take it; it is offered again once that is well.
    is_owed: bool,
}

impl Manifests {
    pub(crate) fn new() -> Self {
        let weigh = |_: &Digest, hot: &Hot| u32::try_from(hot.bytes.len()).unwrap_or(u32::MAX).saturating_add(200);
        Self {
            hot: moka::sync::Cache::builder()
                .weigher(weigh)
                .max_capacity(HOT_BYTES.min(host::memory_limit() / 16))
                .build(),
            own: Flights::new(),
            shared: Flights::new(),
            missing: moka::sync::Cache::builder().max_capacity(MISSING_LIMIT).time_to_live(MISSING_FOR).build(),
        }
    }

    /// Forgets what is in memory: the store has changed below it.
    pub(crate) fn forget_all(&self) {
        self.hot.invalidate_all();
    }
}

impl Cache {
    /// Finds a manifest for the caller, asking its source where permission or bytes are missing. Cancel-safe.
    ///
    /// # Errors
    /// What the source answered instead, or that its bytes are not those of the digest.
    pub async fn manifest(&self, caller: &Caller, digest: &Digest) -> Result<ManifestFound, Fault> {
        let found = self.find_manifest(caller, digest).await?;
        self.listings.note(&caller.place, digest, &found.bytes);
        Ok(found)
    }

    async fn find_manifest(&self, caller: &Caller, digest: &Digest) -> Result<ManifestFound, Fault> {
        let released = self.released(caller, digest, Content::Manifest).await;
        if let Some(released) = released.as_ref().filter(|released| released.standing == Standing::Good)
            && let Some(bytes) = self.manifest_bytes(digest).await
        {
            return Ok(found(*digest, bytes, released.media_type.clone(), Outcome::Hit));
        }
        Box::pin(self.manifest_at_source(caller, digest, released)).await // see `Cache::blob`
    }

    async fn manifest_at_source(
        &self,
        caller: &Caller,
        digest: &Digest,
        released: Option<Released>,
    ) -> Result<ManifestFound, Fault> {
        if released.as_ref().is_some_and(|released| released.standing == Standing::Good) {
            return self.fetch_manifest(caller, digest).await;
        }
        if let Some(fault) = self.known_missing(caller, digest, Content::Manifest) {
            return Err(fault);
        }
        let shared = self.links.are_shared(&caller.place.registry, digest).await;
        let stored = if shared { self.manifest_bytes(digest).await } else { None };
        if stored.is_some() || !caller.source.decides() {
            let lapsed = released.is_some();
            let proving = self.manifest_proven(caller, digest, stored.as_ref());
            match (self.in_time(caller, lapsed, proving).await, stored) {
                (Ok(Some(found)), _) => return Ok(found),
                (Ok(None), _) => {}
                (Err(fault), Some(bytes)) if lapsed => {
                    if !self.may_still(caller, &fault).await {
                        return Err(fault);
                    }
                    let media_type = released.and_then(|released| released.media_type);
                    return Ok(found(*digest, bytes, media_type, Outcome::Hit));
                }
                (Err(fault), _) => return Err(fault),
            }
        }
        self.fetch_manifest(caller, digest).await
    }

    /// Asks the registry for the caller's right: by HEAD, which gives what is `stored`; by GET where HEAD is refused for
    /// its own sake, or says too little. `None` where it may have the manifest, which is still to be fetched.
    async fn manifest_proven(
        &self,
        caller: &Caller,
        digest: &Digest,
        stored: Option<&Bytes>,
    ) -> Result<Option<ManifestFound>, Fault> {
        match self.prove(caller, digest, Content::Manifest).await {
            Ok((proof, _)) => Ok(stored.map(|bytes| found(*digest, bytes.clone(), proof.media_type, Outcome::Hit))),
            Err(fault) if fault.is_about_head() => {
                self.fetch_manifest(&caller.without_mirrors(), digest).await.map(Some)
            }
            Err(fault) => Err(fault),
        }
    }

    /// What HEAD answers for a manifest by digest. Never downloads it.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn manifest_head(&self, caller: &Caller, digest: &Digest) -> Result<(Proof, Outcome), Fault> {
        let released = self.released(caller, digest, Content::Manifest).await;
        let stored = if released.is_some() { self.manifest_bytes(digest).await } else { None };
        let (Some(Released { media_type, standing }), Some(bytes)) = (released, stored) else {
            return Box::pin(self.manifest_described(caller, digest)).await;
        };
        let mut outcome = Outcome::Hit;
        if standing < Standing::Good {
            match self.in_time(caller, true, self.manifest_proven(caller, digest, Some(&bytes))).await {
                Ok(_) => outcome = Outcome::Miss,
                Err(fault) => {
                    if !self.may_still(caller, &fault).await {
                        return Err(fault);
                    }
                }
            }
        }
        Ok((described(&found(*digest, bytes, media_type, outcome)), outcome))
    }

    /// What the registry says of a manifest: by HEAD, and where that tells too little by GET.
    async fn manifest_described(&self, caller: &Caller, digest: &Digest) -> Result<(Proof, Outcome), Fault> {
        match self.prove(caller, digest, Content::Manifest).await {
            Err(fault) if is_unproven(&fault) => {
                let found = self.fetch_manifest(&caller.without_mirrors(), digest).await?;
                Ok((described(&found), found.outcome))
            }
            proven => proven.map(|(proof, _)| (proof, Outcome::Miss)),
        }
    }

    /// One GET for a registry's content at a time, which goes on and is kept when its callers leave.
    async fn fetch_manifest(&self, caller: &Caller, digest: &Digest) -> Result<ManifestFound, Fault> {
        // Who asks the registry alone is not answered by a mirror.
        let key = (caller.place.clone(), *digest, caller.asker(), caller.source.decides());
        let (cache, leader, wanted) = (self.clone(), caller.clone(), *digest);
        let landed = self.manifests.own.run(key, caller.source.fresh_since(), move || async move {
            // Look again, as for a proof.
            if cache.is_released_now(&leader, &wanted, Content::Manifest)
                && let Some(media_type) = cache.links.find_hot(&leader.place, &wanted, Content::Manifest)
                && let Some(Hot { bytes, .. }) = cache.manifests.hot.get(&wanted)
            {
                return Ok((Whole { bytes, media_type, digest: Some(wanted), is_foreign: false }, true));
            }
            cache.fetch_and_keep(&leader, &wanted).await
        });
        let (fetched, outcome) = match landed.await.unwrap_or_else(stopped) {
            Coalesced::Led(fetched) => (fetched, Outcome::Miss),
            // The leader's token may have expired; this one has its own.
            Coalesced::Joined(Err(fault)) if fault.said == Said::Denied => {
                (self.fetch_and_keep(caller, digest).await, Outcome::Miss)
            }
            Coalesced::Joined(fetched) => (fetched, Outcome::Collapsed),
        };
        let (whole, verified) = fetched?;
        Ok(found(*digest, whole.bytes, whole.media_type, if verified { outcome } else { Outcome::Bypass }))
    }

    async fn fetch_and_keep(&self, caller: &Caller, digest: &Digest) -> Result<(Whole, bool), Fault> {
        let asked = Asked::now();
        let fetched = self.fetch_verified(caller, digest).await;
        match &fetched {
            Ok((whole, true)) => {
                let yes = (Reach::Place, asked);
                self.delivered(caller, digest, Content::Manifest, whole.media_type.clone(), yes);
                self.keep_manifest(*digest, &whole.bytes).await;
            }
            Ok((_, false)) => {}
            Err(fault) => {
                self.heed(caller, fault);
                self.note_missing(caller, digest, Content::Manifest, fault);
            }
        }
        fetched
    }

    /// The manifest, and whether it may be kept: its bytes are those of its digest, and it has the shape of one. Signed
    /// schema 1's are not, and are left to the client to verify; what else has the digest may be a page whose digest
    /// was asked for. Whoever waited for another principal's GET proves its own right by HEAD, which
    /// costs no pull where pulls are counted; by its own GET where HEAD is refused for its own sake, or says nothing.
    async fn fetch_verified(&self, caller: &Caller, digest: &Digest) -> Result<(Whole, bool), Fault> {
        let (registry, source, asked) = (caller.place.registry.clone(), &caller.source, caller.source.clone());
        let key = (registry.clone(), *digest);
        let shared = self.manifests.shared.run(key, source.fresh_since(), move || async move { asked.whole().await });
        let whole = match shared.await.unwrap_or_else(stopped) {
            Coalesced::Led(whole) => whole?,
            // It tells that the bytes exist, and nothing of this one's rights.
            Coalesced::Joined(Ok(whole)) => match self.prove(caller, digest, Content::Manifest).await {
                Ok((proof, _)) => Whole { media_type: proof.media_type.or(whole.media_type), ..whole },
                Err(fault) if fault.is_about_head() => caller.without_mirrors().source.whole().await?,
                Err(fault) => return Err(fault),
            },
            Coalesced::Joined(Err(_)) => source.whole().await?,
        };
        let said = Digest::of(digest.algorithm(), &whole.bytes);
        if said == *digest {
            let is_kept = kept_type(&whole.bytes).is_some();
            return Ok((whole.typed(), is_kept));
        }
        if whole.is_schema1() {
            return Ok((whole, false));
        }
        if kept_type(&whole.bytes).is_none() && Look::of(whole.media_type.as_deref()) != Look::Content {
            return Err(NoManifest::fault(whole.media_type.as_deref()));
        }
        tracing::error!(%digest, %registry, found = %said, "refused a manifest from the registry that does not match its digest");
        Err(Fault::new(Retry::Never, WrongManifest { wanted: *digest, found: said }))
    }

    /// The bytes, if they are here: in memory, else on disk.
    pub(crate) async fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.store.catalog().used(digest);
        if let Some(Hot { bytes, is_owed }) = self.manifests.hot.get(digest) {
            if is_owed && self.store.disk_fault().is_none() {
                self.offer_again(*digest, &bytes);
            }
            return Some(bytes);
        }
        let store = self.store.clone();
        let wanted = *digest;
        let read = tokio::task::spawn_blocking(move || read_manifest(&store, &wanted)).await.ok()??;
        self.manifests.hot.insert(*digest, Hot { bytes: read.clone(), is_owed: false });
        Some(read)
    }

    /// Keeps verified bytes. A disk that cannot take them costs the next pull, not this one.
    pub(crate) async fn keep_manifest(&self, digest: Digest, bytes: &Bytes) {
        self.manifests.hot.insert(digest, Hot { bytes: bytes.clone(), is_owed: false });
        let (store, kept) = (self.store.clone(), bytes.clone());
        let put = tokio::task::spawn_blocking(move || store.put(&digest, &kept).map(drop)).await;
        if let Ok(Err(error)) = put {
            tracing::error!(%digest, %error, "cannot store a manifest; it is served from memory");
            // What no disk would take, such as one larger than the cache, is not tried at each hit.
            let is_owed = self.store.disk_fault().is_some();
            self.manifests.hot.insert(digest, Hot { bytes: bytes.clone(), is_owed });
        }
        inventory::arrived(&self.store, &digest, bytes).await;
    }

    /// Stores in the background what an ill disk did not take: it may be hot for months, and gone with a restart.
    fn offer_again(&self, digest: Digest, bytes: &Bytes) {
        let (cache, bytes) = (self.clone(), bytes.clone());
        self.manifests.hot.insert(digest, Hot { bytes: bytes.clone(), is_owed: false }); // once, however many ask
        tokio::spawn(async move { cache.keep_manifest(digest, &bytes).await });
    }

    /// A 404 of a moment ago; only anonymous callers share it.
    pub(crate) fn known_missing(&self, caller: &Caller, digest: &Digest, content: Content) -> Option<Fault> {
        if caller.principal != Principal::Anonymous {
            return None;
        }
        self.manifests.missing.get(&(caller.place.clone(), *digest, content))
    }

    pub(crate) fn note_missing(&self, caller: &Caller, digest: &Digest, content: Content, fault: &Fault) {
        if caller.principal == Principal::Anonymous && fault.said == Said::Missing {
            self.manifests.missing.insert((caller.place.clone(), *digest, content), fault.clone());
        }
    }

    /// A push went through: what was missing may be there now.
    pub fn forget_missing(&self) {
        self.manifests.missing.invalidate_all();
    }
}

/// Reads a whole stored manifest and proves it again: it is small, and what is in memory is believed.
fn read_manifest(store: &crate::store::Store, digest: &Digest) -> Option<Bytes> {
    let bytes = store.read_whole(digest, crate::oci::MANIFEST_LIMIT).ok()??;
    if Digest::of(digest.algorithm(), &bytes) != *digest {
        tracing::error!(%digest, "a cached manifest is damaged; it is fetched again");
        if let Err(error) = store.remove(digest) {
            tracing::error!(%digest, %error, "cannot remove the damaged manifest");
        }
        return None;
    }
    Some(bytes.into())
}

fn found(digest: Digest, bytes: Bytes, media_type: Option<String>, outcome: Outcome) -> ManifestFound {
    let media_type = media_type.unwrap_or_else(|| media_type_of(&bytes));
    ManifestFound { digest, bytes, media_type, outcome }
}

fn described(found: &ManifestFound) -> Proof {
    let size = Some(found.bytes.len() as u64);
    Proof { digest: Some(found.digest), media_type: Some(found.media_type.clone()), size }
}
