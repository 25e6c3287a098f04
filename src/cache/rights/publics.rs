//! Remembers which repositories anybody may read: the registry said so to a request without credentials.
//!
//! Kept for each place, with the time of the last yes, also over a restart: while a registry cannot be asked its
//! public images are served. A no of 401, 403 or 404 to what is there ends it; a throttle or a failure says
//! nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use super::place::Place;
use super::trust::{Permission, Trust};
use crate::store::Store;

/// How long a yes is believed while the registry cannot be asked (docs/credentials.md).
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// A yes is written to the catalog again when the one that is written is so old.
const WRITTEN_FOR: Duration = Duration::from_secs(60);
const CAPACITY: u64 = 500_000;

/// Which places are public, as far as is known.
#[derive(Clone)]
pub struct Publics {
    hot: moka::sync::Cache<Place, PublicAnswer>,
    /// When each place was last probed.
    probed: moka::sync::Cache<Place, Instant>,
    /// Held while an answer is read, judged and replaced: never across an await.
    turn: Arc<Mutex<()>>,
    store: Store,
}

/// What the registry said last, and when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PublicAnswer {
    Open { proven: SystemTime, written: SystemTime },
    Closed(SystemTime),
    Unknown,
}

/// How long ago the registry last said that anybody may read at a place, if nothing took that back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicAge(Option<Duration>);

impl PublicAnswer {
    /// A clock that went backwards makes a proof old, so that it is asked again.
    fn age(self) -> PublicAge {
        PublicAge(match self {
            Self::Open { proven, .. } => {
                Some(proven.elapsed().unwrap_or(LONGEST - Duration::from_secs(1))).filter(|age| *age < LONGEST)
            }
            Self::Closed(_) | Self::Unknown => None,
        })
    }
}

impl PublicAge {
    /// Whether it is known to be public, however long ago.
    pub(crate) fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// Whether that holds: within the life of a right, or only while the registry cannot be asked. `None`: it does not.
    #[must_use]
    pub fn holds(self, trust: &Trust) -> Option<bool> {
        match self.permission(trust) {
            Permission::Good => Some(true),
            Permission::Lapsed => Some(false),
            Permission::Unknown => None,
        }
    }

    /// How anybody stands at the place.
    pub(crate) fn permission(self, trust: &Trust) -> Permission {
        Permission::of(self.0, trust, LONGEST)
    }
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

    /// How long ago the registry last said that anybody may read here.
    pub(crate) async fn age(&self, place: &Place) -> PublicAge {
        if let Some(answer) = self.hot.get(place) {
            return answer.age();
        }
        self.recall(place).await;
        self.hot_age(place)
    }

    /// The same by what is in memory.
    pub(crate) fn hot_age(&self, place: &Place) -> PublicAge {
        self.hot.get(place).map_or(PublicAge(None), PublicAnswer::age)
    }

    async fn recall(&self, place: &Place) {
        let known = match self.store.catalog().public(&place.registry, &place.repository).await {
            Ok(known) => known,
            Err(error) => {
                warn!(%error, "cannot read the catalog; the registry is asked instead");
                return;
            }
        };
        let answer = known.map_or(PublicAnswer::Unknown, |proven| PublicAnswer::Open { proven, written: proven });
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.hot.entry(place.clone()).or_insert(answer); // what was learned meanwhile counts more
    }

    /// The registry said 200 to nobody's request, made at `asked`. Where anybody may have said that in its name
    /// (`forgeable`), it is not written down: what is, counts at other registries, too.
    pub(crate) fn open(&self, place: &Place, asked: SystemTime, forgeable: bool) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match self.hot.get(place) {
            Some(PublicAnswer::Closed(when)) if when >= asked => return,
            Some(PublicAnswer::Open { proven, .. }) if proven >= asked => return,
            Some(PublicAnswer::Open { written, .. })
                if asked.duration_since(written).is_ok_and(|age| age < WRITTEN_FOR) =>
            {
                written
            }
            _ if forgeable => asked,
            _ => {
                self.store.catalog().record_public(&place.registry, &place.repository, Some(asked));
                asked
            }
        };
        self.hot.insert(place.clone(), PublicAnswer::Open { proven: asked, written });
    }

    /// The registry said no to nobody's request, made at `asked`.
    pub(crate) fn close(&self, place: &Place, asked: SystemTime) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.hot.get(place);
        if matches!(before, Some(PublicAnswer::Open { proven, .. }) if proven > asked) {
            return;
        }
        self.hot.insert(place.clone(), PublicAnswer::Closed(asked));
        if !matches!(before, Some(PublicAnswer::Closed(_) | PublicAnswer::Unknown)) {
            self.store.catalog().record_public(&place.registry, &place.repository, None);
        }
    }

    /// Whether it is time to probe a place, which the caller does then: at most once within `life`; not at all where a
    /// yes is enough (`unless_fresh`) and is no older than that.
    pub(crate) fn is_due(&self, place: &Place, life: Duration, unless_fresh: bool) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = unless_fresh && self.hot_age(place).0.is_some_and(|age| age < life);
        let is_asked = self.probed.get(place).is_some_and(|asked| asked.elapsed() < life);
        if !is_fresh && !is_asked {
            self.probed.insert(place.clone(), Instant::now());
        }
        !is_fresh && !is_asked
    }
}
