//! Remembers the last list that a registry answered to each query, bounded: in memory, and in the catalog what anybody with
//! a right to the repository may be given.
//!
//! Whoever asks for one decides who may be given it. What one principal alone was told is in memory only, as rights are.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK};

use crate::cache::{Place, Principal};
use crate::store::{ListEntry, Store};

/// All lists together.
const KEPT_BYTES: u64 = 16 << 20;
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// All that was not there a moment ago.
const GONE_BYTES: u64 = 4 << 20;
/// What is kept of a head: the type, the next page, and by what the registry has filtered (distribution-spec, "Listing
/// Referrers").
const FIELDS: [HeaderName; 3] = [CONTENT_TYPE, LINK, HeaderName::from_static("oci-filters-applied")];
/// What a key and a head take besides, about.
const OVERHEAD: usize = 1024;
/// A list that has not changed is written again after so long.
const WRITTEN_FOR: Duration = Duration::from_secs(600);

/// One query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListKey {
    pub(crate) place: Place,
    /// As it is sent: the path with the digest, the type of artifacts, the page.
    pub(crate) target: Arc<str>,
    /// Who was told, or `None`: one who may read in the repository. Some registries answer an empty list to others.
    pub(crate) told: Option<Principal>,
}

/// The last lists. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct KeptLists {
    kept: moka::sync::Cache<ListKey, Arc<KeptList>>,
    gone: moka::sync::Cache<ListKey, Arc<KeptList>>,
    store: Store,
}

/// A 200, or a 404.
pub(crate) struct KeptList {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
    pub(crate) asked: Instant,
    written: Instant,
}

impl KeptLists {
    pub(crate) fn new(store: Store) -> Self {
        let weigh = |key: &ListKey, list: &Arc<KeptList>| {
            let fields: usize = list.headers.values().map(HeaderValue::len).sum();
            u32::try_from(OVERHEAD + key.target.len() + fields + list.bytes.len()).unwrap_or(u32::MAX)
        };
        let bounded = |bytes| moka::sync::Cache::builder().weigher(weigh).max_capacity(bytes).time_to_live(KEPT_FOR);
        Self { kept: bounded(KEPT_BYTES).build(), gone: bounded(GONE_BYTES).build(), store }
    }

    /// The last answer, if it is in memory.
    pub(crate) fn find(&self, key: &ListKey) -> Option<Arc<KeptList>> {
        self.kept.get(key)
    }

    /// The last list for those who may read, also from before a restart.
    pub(crate) async fn recall(&self, key: &ListKey) -> Option<Arc<KeptList>> {
        if let Some(list) = self.kept.get(key) {
            return Some(list);
        }
        let Place { registry, repository } = &key.place;
        let entry = match self.store.catalog().list(registry, repository, &key.target).await {
            Ok(entry) => entry?,
            Err(error) => {
                tracing::warn!(%error, "cannot read the catalog; the registry is asked instead");
                return None;
            }
        };
        // What was learned meanwhile counts more.
        Some(self.kept.entry(key.clone()).or_insert(Arc::new(KeptList::written(&entry)?)).into_value())
    }

    /// Notes a list: what `own` was told, and if it may read there, for all who may.
    pub(crate) fn note(&self, own: ListKey, shared: Option<ListKey>, list: KeptList) {
        let list = Arc::new(list);
        self.kept.insert(own, list.clone());
        let Some(shared) = shared else { return };
        let before = self.kept.get(&shared);
        let unchanged = before.filter(|before| before.says_as(&list) && before.written.elapsed() < WRITTEN_FOR);
        if unchanged.is_none() {
            self.store.catalog().record_list(list.entry(&shared));
        }
        let written = unchanged.map_or(list.asked, |before| before.written);
        self.kept.insert(shared, Arc::new(KeptList { written, ..(*list).clone() }));
    }

    /// Whether the last answer in memory is a list.
    pub(crate) fn is_listed(&self, key: &ListKey) -> bool {
        self.kept.get(key).is_some_and(|said| said.status == StatusCode::OK)
    }

    /// Notes that the registry has nothing for `own`: for an outage, and where it was said to `nobody`, for a moment.
    pub(crate) fn note_gone(&self, own: ListKey, nobody: Option<ListKey>, said: KeptList) {
        let said = Arc::new(said);
        self.kept.insert(own, said.clone());
        nobody.map(|nobody| self.gone.insert(nobody, said));
    }

    /// The 404 of a moment ago, if it is believed for `life`.
    pub(crate) fn gone(&self, key: &ListKey, life: Duration) -> Option<Arc<KeptList>> {
        self.gone.get(key).filter(|said| said.asked.elapsed() < life)
    }

    pub(crate) fn forget(&self, key: &ListKey) {
        self.kept.invalidate(key);
        if key.told.is_none() {
            self.store.catalog().forget_list(&key.place.registry, &key.place.repository, &key.target);
        }
    }

    /// A push went through: anything may be there now.
    pub(crate) fn forget_gone(&self) {
        self.gone.invalidate_all();
    }
}

impl Clone for KeptList {
    fn clone(&self) -> Self {
        let Self { status, headers, bytes, asked, written } = self;
        Self { status: *status, headers: headers.clone(), bytes: bytes.clone(), asked: *asked, written: *written }
    }
}

impl KeptList {
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, bytes: Bytes, asked: Instant) -> Self {
        let mut kept = HeaderMap::new();
        for name in FIELDS {
            // A value of HTTP/1.1 holds the whole head that it came in.
            let copied =
                headers.get_all(&name).iter().filter_map(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
            kept.extend(copied.map(|value| (name.clone(), value)));
        }
        Self { status, headers: kept, bytes, asked, written: asked }
    }

    fn says_as(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.headers == other.headers
    }

    /// As it was written; `None` if it says when it was asked in a way that no clock here has.
    fn written(entry: &ListEntry) -> Option<Self> {
        // A clock that went backwards makes it old.
        let age = entry.asked.elapsed().unwrap_or(KEPT_FOR);
        let asked = Instant::now().checked_sub(age)?;
        let named = |(name, value): &(String, String)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?));
        let headers: HeaderMap =
            entry.headers.iter().filter_map(named).collect::<Vec<(HeaderName, _)>>().into_iter().collect();
        Some(Self { status: StatusCode::OK, headers, bytes: entry.body.clone(), asked, written: asked })
    }

    fn entry(&self, key: &ListKey) -> ListEntry {
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        ListEntry {
            registry: key.place.registry.clone(),
            repository: key.place.repository.clone(),
            target: key.target.clone(),
            headers: self.headers.iter().filter_map(text).collect(),
            body: self.bytes.clone(),
            asked: SystemTime::now().checked_sub(self.asked.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}
