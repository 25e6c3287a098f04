//! Remembers the last list that a registry answered to each query, in memory and bounded.
//!
//! Whoever asks for one decides who may be given it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK};

use crate::cache::{Place, Principal};

/// All lists together.
const KEPT_BYTES: u64 = 16 << 20;
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// What is kept of a head: the type, the next page, and by what the registry has filtered (distribution-spec, "Listing
/// Referrers").
const FIELDS: [HeaderName; 3] = [CONTENT_TYPE, LINK, HeaderName::from_static("oci-filters-applied")];
/// What a key and a head take besides, about.
const OVERHEAD: usize = 1024;

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
pub(crate) struct KeptLists(moka::sync::Cache<ListKey, Arc<KeptList>>);

/// A 200.
pub(crate) struct KeptList {
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
    pub(crate) asked: Instant,
}

impl KeptLists {
    pub(crate) fn new() -> Self {
        let weigh = |key: &ListKey, list: &Arc<KeptList>| {
            let fields: usize = list.headers.values().map(HeaderValue::len).sum();
            u32::try_from(OVERHEAD + key.target.len() + fields + list.bytes.len()).unwrap_or(u32::MAX)
        };
        let kept = moka::sync::Cache::builder().weigher(weigh).max_capacity(KEPT_BYTES).time_to_live(KEPT_FOR);
        Self(kept.build())
    }

    pub(crate) fn find(&self, key: &ListKey) -> Option<Arc<KeptList>> {
        self.0.get(key)
    }

    pub(crate) fn note(&self, keys: impl IntoIterator<Item = ListKey>, list: KeptList) {
        let list = Arc::new(list);
        keys.into_iter().for_each(|key| self.0.insert(key, list.clone()));
    }

    pub(crate) fn forget(&self, key: &ListKey) {
        self.0.invalidate(key);
    }
}

impl KeptList {
    pub(crate) fn new(headers: &HeaderMap, bytes: Bytes, asked: Instant) -> Self {
        let mut kept = HeaderMap::new();
        for name in FIELDS {
            // A value of HTTP/1.1 holds the whole head that it came in.
            let copied =
                headers.get_all(&name).iter().filter_map(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
            kept.extend(copied.map(|value| (name.clone(), value)));
        }
        Self { headers: kept, bytes, asked }
    }
}
