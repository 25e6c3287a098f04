//! Remembers to which repositories of other registries a repository's answers were redirected.
//!
//! Threat: rules that keep a client from `internal/app` of one registry, and another registry that redirects to it. What
//! was learnt on the way is a hit for everybody who may read at the place that was asked. So each detour is noted, in
//! memory and in the catalog, before anything is made of its answer, and lives as long as a link that it could have
//! brought. Whether it bars a client is the rules' business, above.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::place::Place;
use crate::oci::{Authority, Repository};
use crate::store::Store;

/// A place that leads to more is barred like one that leads everywhere: no registry has a use for so many.
const MOST: usize = 32;
const CAPACITY: u64 = 500_000;
/// Longer than a link is held in memory (`links`): what a detour brought is never known without it.
const LIFE: Duration = Duration::from_secs(2 * 3600);
/// A detour that is seen again is written again after this time.
const WRITTEN_FOR: Duration = Duration::from_secs(3600);

/// What a place's answers were redirected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Detour {
    /// This repository at a host, or one that the path does not tell.
    To(Authority, Option<Repository>),
    /// So many that any repository of any registry has to be reckoned with.
    Everywhere,
}

/// The detours, hot ones in memory and all of them in the catalog.
#[derive(Clone)]
pub struct Detours {
    hot: moka::sync::Cache<Place, Arc<Known>>,
    /// Held while what is known of a place is read and replaced: never across an await.
    turn: Arc<Mutex<()>>,
    changes: Arc<AtomicU64>,
    store: Store,
}

/// What is known of one place.
#[derive(Debug, Default)]
struct Known {
    detours: Arc<[Detour]>,
    written: HashMap<Detour, Instant>,
    /// The catalog was not read: there may be more.
    is_partial: bool,
}

impl Detours {
    /// What `store`'s catalog holds.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let hot = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(LIFE).build();
        Self { hot, turn: Arc::default(), changes: Arc::default(), store }
    }

    /// Forgets what is in memory: the catalog has changed below it.
    pub(crate) fn forget_all(&self) {
        self.hot.invalidate_all();
    }

    /// How many detours were noted so far. While that stands still, so does every judgement.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Where the place's answers were redirected to; `None` where the catalog cannot be read, so that nobody knows.
    pub async fn of(&self, place: &Place) -> Option<Arc<[Detour]>> {
        if let Some(known) = self.hot.get(place).filter(|known| !known.is_partial) {
            return Some(known.detours.clone());
        }
        let rows = match self.store.catalog().detours(&place.registry, &place.repository).await {
            Ok(rows) => rows,
            Err(error) => {
                warn!(%error, "cannot read the catalog; earlier redirects between registries are not known");
                return None;
            }
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // What was noted meanwhile counts, too.
        let known = self.hot.get(place).unwrap_or_else(|| Arc::new(Known { is_partial: true, ..Known::default() }));
        if !known.is_partial {
            return Some(known.detours.clone());
        }
        let read = rows.iter().map(|(host, to)| Detour::read(host, to));
        let read: Vec<_> = read.filter(|detour| !known.detours.contains(detour)).collect();
        let detours: Arc<[Detour]> = known.detours.iter().cloned().chain(read).collect();
        let known = Known { detours: detours.clone(), written: known.written.clone(), is_partial: false };
        self.hot.insert(place.clone(), Arc::new(known));
        Some(detours)
    }

    /// The same by what is in memory.
    #[must_use]
    pub fn hot(&self, place: &Place) -> Arc<[Detour]> {
        self.hot.get(place).map(|known| known.detours.clone()).unwrap_or_default()
    }

    /// An answer for `place` was redirected there.
    pub async fn note(&self, place: &Place, seen: Vec<Detour>) {
        self.of(place).await;
        seen.into_iter().for_each(|detour| self.add(place, detour));
    }

    fn add(&self, place: &Place, detour: Detour) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.hot.get(place).unwrap_or_else(|| Arc::new(Known { is_partial: true, ..Known::default() }));
        let mut detours = known.detours.to_vec();
        let is_one_more = !detours.contains(&detour) && detours.len() >= MOST;
        let detour = if is_one_more { Detour::Everywhere } else { detour };
        let is_known = detours.contains(&detour);
        if !is_known {
            detours.push(detour.clone());
        }
        let mut written = known.written.clone();
        if written.get(&detour).is_none_or(|written| written.elapsed() >= WRITTEN_FOR) {
            let (host, to) = detour.words();
            self.store.catalog().record_detour(&place.registry, &place.repository, &host, &to);
            written.insert(detour, Instant::now());
        }
        self.hot
            .insert(place.clone(), Arc::new(Known { detours: detours.into(), written, is_partial: known.is_partial }));
        if !is_known {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }
}

impl Detour {
    /// As the catalog has it. What cannot be read is reckoned with as everything.
    fn read(host: &str, to: &str) -> Self {
        let to = if to.is_empty() { Ok(None) } else { to.parse().map(Some) };
        match (Authority::parse(host, 443), to) {
            (Ok(host), Ok(to)) => Self::To(host, to),
            _ => Self::Everywhere,
        }
    }

    fn words(&self) -> (String, String) {
        match self {
            Self::To(host, to) => (host.to_string(), to.as_ref().map(ToString::to_string).unwrap_or_default()),
            Self::Everywhere => ("*".into(), String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Percent, Size};
    use crate::store;

    fn to(host: &str, repository: &str) -> Detour {
        let repository = (!repository.is_empty()).then(|| repository.parse().unwrap());
        Detour::To(Authority::parse(host, 443).unwrap(), repository)
    }

    #[tokio::test]
    async fn a_detour_is_known_at_once_and_after_a_restart_and_many_are_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            store::Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let place = |repository: &str| Place { registry: "a.test".into(), repository: repository.parse().unwrap() };
        let store = Store::open(&config).unwrap();
        let detours = Detours::new(store.clone());
        detours.note(&place("some"), vec![]).await;
        assert_eq!((detours.changes(), detours.of(&place("some")).await.unwrap().len()), (0, 0));
        for _ in 0..2 {
            detours.note(&place("some"), vec![to("b.test", "x/y"), to("c.test:5000", "")]).await;
            assert_eq!(detours.changes(), 2); // what is known is no change
        }
        detours.note(&place("many"), (0..100).map(|nth| to("b.test", &format!("r{nth}"))).collect()).await;
        let expected = [to("b.test", "x/y"), to("c.test:5000", "")];
        assert_eq!(*detours.hot(&place("some")), expected);
        assert_eq!(detours.hot(&place("many")).len(), MOST + 1);
        store.close();
        drop((detours, store));
        let store = Store::open(&config).unwrap();
        let detours = Detours::new(store.clone());
        assert_eq!(*detours.of(&place("some")).await.unwrap(), expected);
        assert!(detours.of(&place("many")).await.unwrap().contains(&Detour::Everywhere));
        assert_eq!(*detours.of(&place("none")).await.unwrap(), []);
        store.close();
    }
}
