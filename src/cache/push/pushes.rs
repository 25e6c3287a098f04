//! Learns from what registries accept: commits what was staged, links it, and notes what its tag means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};

use super::body::StagedBody;
use super::landing::{Landing, NotKept};
use super::room::Room;
use super::sessions::{Sessions, UploadKey};
use super::staging::{self, Staging};
use super::tag_write::TagWrite;
use crate::cache::caller::Caller;
use crate::cache::manifests::store::ManifestStore;
use crate::cache::manifests::whole::media_type_of;
use crate::cache::mismatch::Mismatch;
use crate::cache::rights::asked_at::AskedAt;
use crate::cache::rights::rights::Rights;
use crate::cache::tags::tags::Tags;
use crate::host::{LogThrottle, TaskGroup};
use crate::oci::{Algorithm, Digest, MANIFEST_LIMIT, MediaType, Tag, kept_type};
use crate::store::{Content, Store};
use crate::wire::Body;

/// The registry's answer waits for the disk so long, so that what was pushed is a hit at once. A larger one is committed behind
/// it.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

static NOT_WHOLE: LogThrottle = LogThrottle::new();
static OTHER_CONTENT: LogThrottle = LogThrottle::new();
static NOT_STORED: LogThrottle = LogThrottle::new();

/// Who pushes, and where.
#[derive(Clone)]
pub struct Pusher {
    caller: Caller,
    asked: AskedAt,
}

/// A manifest that a registry accepted.
pub struct PushedManifest {
    /// The write of the tag that it was pushed under.
    pub tag: Option<TagWrite>,
    /// Its digest by the registry's word, or by the client's where the registry said nothing else.
    pub digest: Option<Digest>,
    /// The `Content-Type` that it was pushed with.
    pub media_type: Option<String>,
}

/// What clients push. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Pushes {
    pub(super) store: Store,
    pub(super) rights: Arc<Rights>,
    pub(super) tags: Arc<Tags>,
    kept: ManifestStore,
    pub(super) sessions: Sessions,
    room: Room,
    tasks: TaskGroup,
}

impl Pusher {
    /// The caller that sends a push now.
    #[must_use]
    pub fn new(caller: Caller) -> Self {
        Self { caller, asked: AskedAt::now() }
    }

    /// Who that is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn upload(&self, location: &str) -> UploadKey {
        let Caller { place, principal, .. } = &self.caller;
        UploadKey { place: place.clone(), principal: principal.clone(), location: location.to_owned() }
    }
}

impl Pushes {
    pub(crate) fn new(
        store: Store,
        rights: Arc<Rights>,
        tags: Arc<Tags>,
        kept: ManifestStore,
        tasks: TaskGroup,
    ) -> Self {
        let room = Room::new(store.clone());
        Self { store, rights, tags, kept, sessions: Sessions::default(), room, tasks }
    }

    /// A blob's push that begins, of so many bytes if that is known. `None` where it cannot be staged: half of the open files are
    /// for pulls, and so is most of the space.
    #[must_use]
    pub fn begin(&self, algorithm: Algorithm, length: Option<u64>) -> Option<Landing> {
        self.land(algorithm, length, u64::MAX)
    }

    /// The same of a manifest.
    #[must_use]
    pub fn begin_manifest(&self, algorithm: Algorithm, length: Option<u64>) -> Option<Landing> {
        self.land(algorithm, length, MANIFEST_LIMIT as u64)
    }

    fn land(&self, algorithm: Algorithm, length: Option<u64>, most: u64) -> Option<Landing> {
        let files = self.store.files();
        let has_files = files.used() < files.most() / 2;
        let fits = length.is_none_or(|length| length <= most && self.room.has(length));
        let is_well = !self.store.is_hanging() && self.store.disk_fault().is_none();
        (has_files && fits && is_well).then(|| Landing::new(self.store.clone(), self.room.share(), algorithm, most))
    }

    /// What has landed of an upload, taken out: a request that goes on from elsewhere than its end is not staged, nor one that
    /// brings more bytes (`length`) than there is room for.
    #[must_use]
    pub fn resume(&self, pusher: &Pusher, location: &str, from: Option<u64>, length: Option<u64>) -> Option<Landing> {
        let landing = self.sessions.take(&pusher.upload(location))?;
        let fits = self.room.has(length.unwrap_or_default());
        (fits && from.is_none_or(|from| from == landing.len())).then_some(landing)
    }

    /// A write of a tag begins: until it has ended nobody knows what the tag means.
    #[must_use]
    pub fn write_tag(&self, pusher: &Pusher, tag: Tag) -> TagWrite {
        TagWrite::begin(self.tags.clone(), pusher.caller.place.clone(), tag)
    }

    /// A write has tagged this as well.
    pub fn forget_tag(&self, pusher: &Pusher, tag: &Tag) {
        self.tags.forget(&pusher.caller.place, tag);
    }

    /// The upload goes on at this location. `length`: so many bytes the registry says that it has.
    pub fn park(&self, pusher: &Pusher, location: &str, landing: Landing, length: Option<u64>) {
        if length.is_none_or(|length| length == landing.len()) {
            self.sessions.put(pusher.upload(location), landing, &self.tasks);
        }
    }

    /// The body to send, staged on its way.
    #[must_use]
    pub fn stage(&self, pusher: &Pusher, landing: Landing, body: Body) -> (Body, Staging) {
        let (feed, staging) = staging::begin(landing, &pusher.caller.place, &self.store, &self.tasks);
        (Body::wrap(StagedBody::new(body, feed)), staging)
    }

    /// Waits until what was staged has landed, as long as a commit may take. Its file is closed behind it otherwise.
    pub async fn landed(&self, staging: Staging) -> Option<Landing> {
        tokio::time::timeout(COMMIT_WAIT, staging.landed()).await.ok()?
    }

    /// The registry accepted a blob under this digest, which came in one request or in several. Returns whether it is kept by now;
    /// cancel-safe, since the commit goes on.
    pub async fn accepted_blob(&self, pusher: &Pusher, digest: Digest, staging: Staging, is_one_request: bool) -> bool {
        let (pushes, pusher) = (self.clone(), pusher.clone());
        self.patiently(async move {
            let Some(landing) = staging.landed().await else { return false };
            let committing = pushes.tasks.spawn_blocking(move || landing.commit(&digest));
            match committing.await {
                Ok(Ok(_)) => {
                    pushes.rights.pushed(&pusher.caller, &digest, Content::Blob, None, pusher.asked);
                    true
                }
                Ok(Err(why)) => {
                    not_kept(&pusher, &why, is_one_request);
                    false
                }
                Err(_) => false, // a panic was reported when it happened
            }
        })
        .await
    }

    /// The registry accepted a manifest. Returns its digest if it is kept by now; cancel-safe.
    pub async fn accepted_manifest(
        &self,
        pusher: &Pusher,
        manifest: PushedManifest,
        staging: Staging,
    ) -> Option<Digest> {
        let (pushes, pusher) = (self.clone(), pusher.clone());
        self.patiently(async move {
            let landing = staging.landed().await?;
            let read = pushes.tasks.spawn_blocking(move || landing.read()); // and its file goes
            let bytes = Bytes::from(read.await.ok()??);
            pushes.keep(&pusher, manifest, bytes).await
        })
        .await
    }

    async fn keep(&self, pusher: &Pusher, manifest: PushedManifest, bytes: Bytes) -> Option<Digest> {
        let PushedManifest { tag, digest: accepted, media_type } = manifest;
        kept_type(&bytes)?;
        let algorithm = accepted.map_or(Algorithm::Sha256, |accepted| accepted.algorithm());
        let digest = Digest::of(algorithm, &bytes);
        if let Some(accepted) = accepted.filter(|accepted| *accepted != digest) {
            not_kept(pusher, &NotKept::Mismatch(Box::new(Mismatch { wanted: accepted, found: digest })), true);
            return None;
        }
        let said = media_type.filter(|said| MediaType::parse(said).is_some());
        let media_type = said.unwrap_or_else(|| media_type_of(&bytes));
        self.kept.keep(digest, &bytes).await;
        let caller = &pusher.caller;
        self.rights.pushed(caller, &digest, Content::Manifest, Some(media_type.clone()), pusher.asked);
        if let Some(tag) = tag {
            let described = (&digest, media_type.as_str(), bytes.len() as u64);
            tag.means(described, caller.learns()).await;
        }
        Some(digest)
    }

    /// The registry mounted a blob from another repository. It is linked here, if this registry's word is enough for it. Who
    /// mounts has not sent the bytes, so this is no right to read them. Returns whether it is linked.
    pub async fn mounted(&self, pusher: &Pusher, digest: &Digest) -> bool {
        let place = &pusher.caller.place;
        let is_enough = self.rights.are_shared(place, digest).await;
        if is_enough {
            self.rights.linked_by_push(place, digest, Content::Blob, None, pusher.asked);
        }
        is_enough
    }

    /// Gives up what waits for further requests.
    pub(crate) fn stop(&self) {
        self.sessions.clear();
    }

    /// Does it to its end, and waits for it as long as a client may wait.
    async fn patiently<T: Default + Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let working = self.tasks.spawn(work);
        match tokio::time::timeout(COMMIT_WAIT, working).await {
            Ok(done) => done.unwrap_or_default(), // a panic was reported when it happened
            Err(_) => T::default(),
        }
    }
}

fn not_kept(pusher: &Pusher, why: &NotKept, is_one_request: bool) {
    let place = &pusher.caller.place;
    let (registry, repository) = (&*place.registry, place.repository.as_str());
    match why {
        NotKept::Mismatch(_) if is_one_request && OTHER_CONTENT.is_due() => {
            warn!(registry, repository, "{why}; it is not cached. Similar lines are not logged for a minute");
        }
        // Honest clients of several replicas, or with another way to the registry, do so.
        NotKept::Mismatch(_) if !is_one_request && NOT_WHOLE.is_due() => info!(
            registry,
            repository,
            "{why}: part of the upload may have taken another way; it is not cached. Similar lines are not logged for a minute"
        ),
        NotKept::Store(_) if NOT_STORED.is_due() => info!(
            registry,
            repository,
            error = crate::telemetry::chain(why),
            "a pushed blob could not be cached. Similar failures are not logged for a minute"
        ),
        _ => {}
    }
}
