//! Which repositories anybody may read, because the registry said so to a request without anybody's credentials.
//!
//! Kept for each place, with the time of the last yes, also over a restart: while a registry cannot be asked its
//! public images are served. A no of 401, 403 or 404 to what is there ends it; a throttle or a failure says
//! nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use crate::cache::Place;
use crate::store::Store;

/// How long a yes is believed while the registry cannot be asked (docs/credentials.md).
pub(crate) const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// A yes is written down anew when the one that is written is so old.
const WRITTEN_FOR: Duration = Duration::from_secs(60);
const CAPACITY: u64 = 500_000;

/// What is known of places.
#[derive(Clone)]
pub struct Publics {
    hot: moka::sync::Cache<Place, Verdict>,
    /// When places were asked about for this purpose.
    probed: moka::sync::Cache<Place, Instant>,
    /// Held while a verdict is read, judged and replaced: never across an await.
    turn: Arc<Mutex<()>>,
    store: Store,
}

/// What the registry said last, and when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Open { proven: SystemTime, written: SystemTime },
    Closed(SystemTime),
    Unknown,
}

impl Publics {
    /// What `store`'s catalog holds.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let hot = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(LONGEST).build();
        let probed = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(LONGEST).build();
        Self { hot, probed, turn: Arc::default(), store }
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(crate) fn forget_all(&self) {
        self.hot.invalidate_all();
    }

    /// How long ago the registry last said that anybody may read here, if nothing took that back.
    pub(crate) async fn age(&self, place: &Place) -> Option<Duration> {
        if self.hot.get(place).is_none() {
            self.recall(place).await;
        }
        self.hot_age(place)
    }

    /// The same by what is in memory. A clock that went backwards makes a proof old, so that it is asked again.
    pub(crate) fn hot_age(&self, place: &Place) -> Option<Duration> {
        match self.hot.get(place)? {
            Verdict::Open { proven, .. } => {
                Some(proven.elapsed().unwrap_or(LONGEST - Duration::from_secs(1))).filter(|age| *age < LONGEST)
            }
            Verdict::Closed(_) | Verdict::Unknown => None,
        }
    }

    async fn recall(&self, place: &Place) {
        let known = match self.store.catalog().public(&place.registry, &place.repository).await {
            Ok(known) => known,
            Err(error) => {
                warn!(%error, "cannot read the catalog; the registry is asked instead");
                return;
            }
        };
        let verdict = known.map_or(Verdict::Unknown, |proven| Verdict::Open { proven, written: proven });
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.hot.entry(place.clone()).or_insert(verdict); // what was learned meanwhile counts more
    }

    /// The registry said 200 to nobody's request, made at `asked`. Where anybody may have said that in its name
    /// (`forgeable`), it is not written down: what is, counts at other registries, too.
    pub(crate) fn open(&self, place: &Place, asked: SystemTime, forgeable: bool) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match self.hot.get(place) {
            Some(Verdict::Closed(when)) if when >= asked => return,
            Some(Verdict::Open { proven, .. }) if proven >= asked => return,
            Some(Verdict::Open { written, .. }) if asked.duration_since(written).is_ok_and(|age| age < WRITTEN_FOR) => {
                written
            }
            _ if forgeable => asked,
            _ => {
                self.store.catalog().record_public(&place.registry, &place.repository, Some(asked));
                asked
            }
        };
        self.hot.insert(place.clone(), Verdict::Open { proven: asked, written });
    }

    /// The registry said no to nobody's request, made at `asked`.
    pub(crate) fn close(&self, place: &Place, asked: SystemTime) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.hot.get(place);
        if matches!(before, Some(Verdict::Open { proven, .. }) if proven > asked) {
            return;
        }
        self.hot.insert(place.clone(), Verdict::Closed(asked));
        if !matches!(before, Some(Verdict::Closed(_) | Verdict::Unknown)) {
            self.store.catalog().record_public(&place.registry, &place.repository, None);
        }
    }

    /// Whether it is time to ask about a place; who hears yes asks. At most once within `life`; where a yes is
    /// enough (`unless_fresh`) and is no older than that, not at all.
    pub(crate) fn is_due(&self, place: &Place, life: Duration, unless_fresh: bool) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = unless_fresh && self.hot_age(place).is_some_and(|age| age < life);
        let is_asked = self.probed.get(place).is_some_and(|asked| asked.elapsed() < life);
        if !is_fresh && !is_asked {
            self.probed.insert(place.clone(), Instant::now());
        }
        !is_fresh && !is_asked
    }
}
