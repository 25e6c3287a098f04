//! Puts the parts of the cache together, and is what the rooms above see of them.

use std::sync::Arc;
use std::time::Instant;

use super::blobs::{BlobFound, BlobLookup};
use super::caller::{Caller, Requester};
use super::fill::{FillConfig, Fills};
use super::inventory::Inventory;
use super::manifests::manifests::{ManifestFound, Manifests};
use super::manifests::store::ManifestStore;
use super::missing::Missing;
use super::prefetch::Prefetcher;
use super::probe::{self, Occasion};
use super::proofs::Proofs;
use super::push::pushes::Pushes;
use super::refusals::Refusals;
use super::rights::detours::Detours;
use super::rights::grants::NoMacKey;
use super::rights::place::Place;
use super::rights::principal::Principal;
use super::rights::publics::PublicAge;
use super::rights::reader::PlaceReader;
use super::rights::rights::Rights;
use super::rights::trust::{Permission, Trust};
use super::source::{Fault, Proof, Said, Source, Subject};
use super::tags::tags::{TagFound, TagQuestion, Tags};
use crate::host::TaskGroup;
use crate::oci::{Digest, MediaType};
use crate::store::{Content, Store};
use crate::telemetry::{Metrics, Outcome};

/// The cache: the store, what is on its way into it, and who may read what. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Cache {
    store: Store,
    fills: Arc<Fills>,
    rights: Arc<Rights>,
    detours: Detours,
    refusals: Arc<Refusals>,
    blobs: Arc<BlobLookup>,
    kept: ManifestStore,
    manifests: Arc<Manifests>,
    tags: Arc<Tags>,
    prefetch: Arc<Prefetcher>,
    pushes: Pushes,
    missing: Missing<(Digest, Content)>,
    tasks: TaskGroup,
}

impl Cache {
    /// A cache over `store`.
    ///
    /// # Errors
    /// The system's random numbers cannot be read.
    pub fn new(store: Store, fill: FillConfig, metrics: Metrics) -> Result<Self, NoMacKey> {
        let tasks = TaskGroup::new();
        let fills = Arc::new(Fills::new(store.clone(), fill, metrics, tasks.clone()));
        // What a refused caller's sources proved in fills under way proves nothing any more.
        let doubted = fills.clone();
        let rights = Arc::new(Rights::new(&store, move |caller| doubted.doubt(caller))?);
        let refusals = Arc::new(Refusals::new(rights.clone(), tasks.clone()));
        let proofs = Arc::new(Proofs::new(rights.clone(), refusals.clone(), store.clone(), tasks.clone()));
        let (kept, missing) = (ManifestStore::new(store.clone(), tasks.clone()), Missing::new());
        let manifests =
            Manifests::new(rights.clone(), refusals.clone(), proofs.clone(), kept.clone(), missing.clone(), &tasks);
        let blobs =
            BlobLookup::new(rights.clone(), refusals.clone(), proofs, fills.clone(), missing.clone(), store.clone());
        let blobs = Arc::new(blobs);
        let tags = Tags::new(rights.clone(), refusals.clone(), kept.clone(), store.clone(), tasks.clone());
        let tags = Arc::new(tags);
        let pushes = Pushes::new(store.clone(), rights.clone(), tags.clone(), kept.clone(), tasks.clone());
        Ok(Self {
            tags,
            pushes,
            detours: Detours::new(store.clone()),
            prefetch: Arc::new(Prefetcher::new(blobs.clone(), tasks.clone())),
            manifests: Arc::new(manifests),
            store,
            fills,
            rights,
            refusals,
            blobs,
            kept,
            missing,
            tasks,
        })
    }

    /// Finds what a tag means for the caller. Cancel-safe: an asking under way goes on.
    ///
    /// # Errors
    /// What the source answered instead, where no last known answer may stand in for it.
    pub async fn tag(&self, requester: &impl Requester, question: &TagQuestion) -> Result<TagFound, Fault> {
        self.tags.find(requester, question).await
    }

    /// Finds what a tag means for the caller, and that manifest. Cancel-safe.
    ///
    /// # Errors
    /// As of [`Cache::tag`] and [`Cache::manifest`].
    pub async fn tagged_manifest(
        &self,
        requester: &impl Requester,
        question: &TagQuestion,
    ) -> Result<(TagFound, ManifestFound), Fault> {
        let found = self.tag(requester, question).await?;
        let manifest = if found.outcome == Outcome::Hit {
            self.manifest(requester, &found.digest).await
        } else {
            // The registry's answer may have changed who may read. A caller that was just told the last known answer does
            // not wait for the registry a second time.
            let mut caller = requester.caller().clone();
            caller.trust.away |= found.outcome == Outcome::Stale;
            Box::pin(self.manifest(&caller, &found.digest)).await
        };
        match manifest {
            Ok(manifest) if is_of_another_type(&found, &manifest) => {
                let place = requester.reader().place;
                Ok((Box::pin(self.retyped(place, question, found, &manifest)).await, manifest))
            }
            Ok(manifest) => Ok((found, manifest)),
            Err(fault) => Box::pin(self.delivered_tag(requester.caller(), question, &found, fault)).await,
        }
    }

    /// `found` with the type of the manifest that came: GET's, else its own. What HEAD said of a tag is often another.
    async fn retyped(
        &self,
        place: &Place,
        question: &TagQuestion,
        found: TagFound,
        manifest: &ManifestFound,
    ) -> TagFound {
        self.tags.retype(place, question, &found.digest, &manifest.media_type).await;
        TagFound { media_type: manifest.media_type.clone(), ..found }
    }

    /// The tag's manifest by the tag itself, where the registry does not have it by the digest that it said: by HEAD it may
    /// say another one's, and some serve manifests by tag alone.
    async fn delivered_tag(
        &self,
        caller: &Caller,
        question: &TagQuestion,
        found: &TagFound,
        fault: Fault,
    ) -> Result<(TagFound, ManifestFound), Fault> {
        let is_refused = matches!(fault.said, Said::Missing | Said::Denied | Said::Forbidden | Said::Refused);
        if found.outcome == Outcome::Stale || !is_refused {
            return Err(fault);
        }
        let (delivered, is_kept) = self.tags.delivered(caller, question, &found.digest).await?;
        if !is_kept {
            return Err(fault);
        }
        let manifest = self.manifest(caller, &delivered.digest).await?;
        Ok((delivered, manifest))
    }

    /// Finds a manifest for the caller, asking its source where permission or bytes are missing. Cancel-safe.
    ///
    /// # Errors
    /// What the source answered instead, or that its bytes are not those of the digest.
    pub async fn manifest(&self, requester: &impl Requester, digest: &Digest) -> Result<ManifestFound, Fault> {
        let found = self.manifests.find(requester, digest).await?;
        self.prefetch.note(requester.reader().place, digest, &found.bytes);
        Ok(found)
    }

    /// What HEAD answers for a manifest by digest. Never downloads it, unless HEAD tells too little.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn manifest_head(&self, requester: &impl Requester, digest: &Digest) -> Result<(Proof, Outcome), Fault> {
        self.manifests.head(requester, digest).await
    }

    /// Finds a blob for the caller, asking its source where permission or bytes are missing. Cancel-safe: what
    /// was started goes on.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn blob(&self, requester: &impl Requester, digest: &Digest) -> Result<BlobFound, Fault> {
        self.blobs.find(requester, digest).await
    }

    /// What HEAD answers for a blob: its length in bytes. Never downloads it.
    ///
    /// # Errors
    /// What the source answered instead.
    pub async fn blob_head(
        &self,
        requester: &impl Requester,
        digest: &Digest,
    ) -> Result<(Option<u64>, Outcome), Fault> {
        self.blobs.head(requester, digest).await
    }

    /// A reader asked for pieces of a blob.
    pub fn wants_pieces(&self, reader: PlaceReader<'_>, blob: &Digest) {
        self.prefetch.wants_pieces(reader, blob);
    }

    /// A caller began to read a whole blob. If it is a layer of an image whose manifest was served here lately, the
    /// image's other blobs are fetched into the cache by the caller's own source, `at_once` of the registry at a time.
    /// Returns at once.
    pub fn prefetch(&self, requester: &impl Requester, blob: &Digest, at_once: impl FnOnce() -> usize) {
        self.prefetch.begin(requester, blob, at_once);
    }

    /// Checks in the background, when due, whether anybody may have the `subject` at the reader's place; `nobody` makes a
    /// source that asks there without credentials. Returns at once.
    pub fn probe(
        &self,
        reader: PlaceReader<'_>,
        subject: Subject,
        occasion: Occasion,
        nobody: impl FnOnce() -> Arc<dyn Source>,
    ) {
        probe::probe((&self.rights, &self.refusals), &self.tasks, reader, subject, occasion, nobody);
    }

    /// What is learned from pushes.
    #[must_use]
    pub fn pushes(&self) -> &Pushes {
        &self.pushes
    }

    /// A push went through: what was missing may be there now.
    pub fn forget_missing(&self) {
        self.missing.forget_all();
    }
}

/// Who may read.
impl Cache {
    /// Who has `credential` at `registry`: a header as it came, or what [`Cache::mac`] made of a credential.
    #[must_use]
    pub fn principal(&self, registry: &str, credential: Option<&[u8]>) -> Principal {
        self.rights.grants().principal(registry, credential)
    }

    /// A MAC of secrets under a key that dies with the process, to compare them by.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.rights.grants().mac(parts)
    }

    /// How long ago the registry said of the repository that anybody may read it.
    pub async fn public_age(&self, place: &Place) -> PublicAge {
        self.rights.public_age(place).await
    }

    /// Whether the registry said of the repository that anybody may read it, within its life, or so long ago that
    /// it counts only while the registry cannot be asked.
    pub async fn is_public(&self, place: &Place, trust: &Trust) -> Option<bool> {
        self.public_age(place).await.holds(trust)
    }

    /// Whether `principal` has proven its right at `place`, lately or so long ago that it counts only while the
    /// registry cannot be asked.
    #[must_use]
    pub fn is_granted(&self, place: &Place, principal: &Principal, trust: &Trust) -> bool {
        self.rights.granted(place, principal, trust) > Permission::Unknown
    }

    /// Where a place's answers were redirected to, at other registries.
    #[must_use]
    pub fn detours(&self) -> &Detours {
        &self.detours
    }

    /// Whether the reader may read at its place by what the registry said, without asking it again.
    pub async fn may_read(&self, reader: PlaceReader<'_>) -> bool {
        self.rights.permission(reader).await == Permission::Good
    }

    /// Whether the reader may be told again what the registry itself told it at `asked`: as long as a right would hold, if
    /// the registry has not said no since.
    #[must_use]
    pub fn may_hear_again(&self, reader: PlaceReader<'_>, asked: Instant) -> bool {
        let lives = reader.trust.lives;
        let is_denied = self.rights.grants().is_denied_since(reader.place, reader.principal, asked);
        !is_denied && Permission::of(Some(asked.elapsed()), reader.trust, lives.outage) == Permission::Good
    }

    /// Forgets what callers have proven, as when the registries' configuration changed.
    pub fn forget_grants(&self) {
        self.rights.grants().clear();
    }
}

/// What it holds.
impl Cache {
    /// What the cache holds, for the operator's commands.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let (rights, tags, kept) = (self.rights.clone(), self.tags.clone(), self.kept.clone());
        let detours = self.detours.clone();
        Inventory::served(self.store.clone(), move || {
            detours.forget_all();
            rights.forget_all();
            tags.forget_all();
            kept.forget_all();
        })
    }

    /// Puts away what is on its way, to be continued after the next start, and waits until all work in the background has
    /// ended. Has no deadline of its own: its caller sets one. Cancel-safe.
    pub async fn stop(&self) {
        self.pushes.stop();
        tokio::join!(self.fills.put_away(), self.tasks.stop());
    }
}

/// Whether the manifest came with a type of manifests that is not the tag's: that of HEAD is often another.
fn is_of_another_type(found: &TagFound, manifest: &ManifestFound) -> bool {
    found.media_type != manifest.media_type && MediaType::parse(&manifest.media_type).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::cache::silent::Silent;
    use crate::cache::source::{Flow, Origins, Want, Whole};
    use crate::cache::tags::answer::Asking;
    use crate::cache::tags::freshness::Freshness;
    use crate::host::{Percent, Size};
    use crate::oci::{Accept, Algorithm};
    use crate::store;

    const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

    /// A registry that has one manifest, under any name.
    struct Delivers(Bytes);

    impl Source for Delivers {
        fn open<'a>(&'a self, _: &'a Digest, _: Want) -> BoxFuture<'a, Result<Flow, Fault>> {
            Box::pin(std::future::pending())
        }

        fn prove<'a>(&'a self, _: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>> {
            Box::pin(std::future::pending())
        }

        fn whole<'a>(&'a self, _: &'a Subject, _: Origins) -> BoxFuture<'a, Result<Whole, Fault>> {
            let (bytes, digest) = (self.0.clone(), Some(Digest::of(Algorithm::Sha256, &self.0)));
            Box::pin(async move { Ok(Whole { bytes, media_type: Some(TYPE.to_owned()), digest, is_foreign: false }) })
        }

        fn decides(&self) -> bool {
            true
        }
    }

    /// A client that is known by name and cannot ask.
    struct NameOnly<'a>(PlaceReader<'a>);

    impl Requester for NameOnly<'_> {
        fn reader(&self) -> PlaceReader<'_> {
            self.0
        }

        fn caller(&self) -> &Caller {
            panic!("a hit asks nobody");
        }
    }

    #[tokio::test]
    async fn a_hit_of_a_tag_and_of_its_manifest_makes_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            store::Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let store = Store::open(&config).unwrap();
        let cache = Cache::new(store.clone(), FillConfig::default(), Metrics::new()).unwrap();
        let bytes = Bytes::from_static(br#"{"schemaVersion":2,"layers":[]}"#);
        let (digest, trust) = (Digest::of(Algorithm::Sha256, &bytes), Trust::default());
        let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
        let caller = Caller::new(place.clone(), Principal::Anonymous, Arc::new(Delivers(bytes)), trust);
        let question = TagQuestion {
            tag: "1".parse().unwrap(),
            accept: Accept::parse([TYPE]),
            freshness: Freshness { fresh_for: Duration::from_secs(60), deadline: Duration::from_secs(1) },
            asking: Asking::Content,
        };
        let (found, _) = cache.tagged_manifest(&caller, &question).await.unwrap();
        assert_eq!((found.outcome, found.digest), (Outcome::Miss, digest));
        let public = Some(cache.public_age(&place).await);
        let hit = NameOnly(PlaceReader { place: &place, principal: &Principal::Anonymous, trust: &trust, public });
        let (found, manifest) = cache.tagged_manifest(&hit, &question).await.unwrap();
        assert_eq!((found.outcome, manifest.outcome), (Outcome::Hit, Outcome::Hit));
        assert_eq!(cache.manifest(&hit, &digest).await.unwrap().outcome, Outcome::Hit);
        assert_eq!(cache.manifest_head(&hit, &digest).await.unwrap().1, Outcome::Hit);
        store.close();
    }

    #[tokio::test]
    async fn a_stop_ends_what_asks_in_the_background_and_waits_for_what_is_being_stored() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            store::Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let store = Store::open(&config).unwrap();
        let cache = Cache::new(store.clone(), FillConfig::default(), Metrics::new()).unwrap();
        let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
        let (source, trust) = (Arc::new(Silent::default()), Trust::default());
        let blob = Digest::of(Algorithm::Sha256, b"x");
        let caller = Caller::new(place.clone(), Principal::Anonymous, source.clone(), trust);
        cache.probe(caller.reader(), Subject::Blob(blob), Occasion::Served, || source.clone());
        let asking = tokio::spawn({
            let cache = cache.clone();
            async move { cache.blob(&caller, &blob).await.is_err() }
        });
        while cache.fills.is_empty() {
            tokio::task::yield_now().await;
        }
        let manifest = Bytes::from_static(br#"{"schemaVersion":2,"layers":[]}"#);
        let digest = Digest::of(Algorithm::Sha256, &manifest);
        let mut keeping = Box::pin(cache.kept.keep(digest, &manifest));
        assert!(futures_util::poll!(&mut keeping).is_pending());
        drop(keeping); // its caller leaves
        cache.stop().await;
        assert!(asking.await.unwrap(), "the client of the fill is told");
        assert!(cache.fills.is_empty());
        assert_eq!(Arc::strong_count(&source), 1, "nothing asks any more");
        assert!(store.read_whole(&digest, 1 << 20).unwrap().is_some(), "the manifest is on disk");
        store.close();
    }
}
