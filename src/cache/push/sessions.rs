//! Keeps what has landed of chunked uploads between two of their requests: bounded in number and time.
//!
//! Threat: clients that begin uploads and never end them hold files, space and memory. Exposure: at most [`MOST`] files, for [`LIFE`]
//! without a request; their bytes count as the cache's, and one task ends all of them. Where there are too many, whoever has most of
//! them loses its oldest. Whatever order the requests of an upload come in, and however many at a
//! time, what is committed in the end has the digest that was accepted, or is not: a request that finds nothing here
//! is not staged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::landing::Landing;
use crate::cache::rights::place::Place;
use crate::cache::rights::principal::Principal;
use crate::host::TaskGroup;

/// So many uploads wait for their next request at most.
pub(crate) const MOST: usize = 256;
/// And so long.
pub(crate) const LIFE: Duration = Duration::from_secs(300);
/// No longer location is kept: no client could come back to it, since targets are shorter.
const LONGEST_LOCATION: usize = 8 << 10;

/// Which upload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UploadKey {
    pub(crate) place: Place,
    pub(crate) principal: Principal,
    /// The location that the registry gave it.
    pub(crate) location: String,
}

/// The uploads that wait. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    waiting: HashMap<UploadKey, Waiting>,
    /// A task ends what has waited for too long. There is one while anything waits.
    is_swept: bool,
}

struct Waiting {
    since: Instant,
    landing: Landing,
}

impl Sessions {
    /// Takes out what has landed of it. A second request at the same time finds nothing.
    pub(crate) fn take(&self, key: &UploadKey) -> Option<Landing> {
        self.lock().waiting.remove(key).map(|waiting| waiting.landing)
    }

    /// Keeps what has landed of it for its next request.
    pub(crate) fn put(&self, key: UploadKey, landing: Landing, tasks: &TaskGroup) {
        if key.location.len() > LONGEST_LOCATION {
            return;
        }
        let mut table = self.lock();
        let displaced = if table.waiting.len() >= MOST { table.displace() } else { None };
        let replaced = table.waiting.insert(key, Waiting { since: Instant::now(), landing });
        let is_swept = std::mem::replace(&mut table.is_swept, true);
        drop(table);
        drop((replaced, displaced)); // their files are removed without the lock
        if !is_swept {
            tasks.spawn_until_stop(self.clone().sweep());
        }
    }

    /// Ends what has waited for too long, until nothing waits.
    async fn sweep(self) {
        loop {
            let (old, next) = {
                let mut table = self.lock();
                let now = Instant::now();
                let old: Vec<_> = table.waiting.extract_if(|_, waiting| waiting.since + LIFE <= now).collect();
                let next = table.waiting.values().map(|waiting| waiting.since + LIFE).min();
                table.is_swept = next.is_some();
                (old, next)
            };
            drop(old);
            let Some(next) = next else { return };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Gives all of them up.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut self.lock().waiting);
        drop(all);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes out the oldest one of whoever has most: a client that begins many ends its own, and not another one's.
    fn displace(&mut self) -> Option<Waiting> {
        let mut counts: HashMap<&Principal, usize> = HashMap::new();
        self.waiting.keys().for_each(|key| *counts.entry(&key.principal).or_default() += 1);
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(principal, _)| principal.clone())?;
        let theirs = self.waiting.iter().filter(|(key, _)| key.principal == most);
        let oldest = theirs.min_by_key(|(_, waiting)| waiting.since).map(|(key, _)| key.clone())?;
        self.waiting.remove(&oldest)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::room::Room;
    use super::*;
    use crate::host::{Percent, Size};
    use crate::oci::Algorithm;
    use crate::store::{Config, Store};

    fn key(upload: usize) -> UploadKey {
        let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
        UploadKey { place, principal: Principal::Anonymous, location: upload.to_string() }
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_that_nobody_goes_on_with_are_few_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let store = Store::open(&config).unwrap();
        let (sessions, tasks) = (Sessions::default(), TaskGroup::new());
        let room = Room::new(store.clone());
        let landing = || Landing::new(store.clone(), room.share(), Algorithm::Sha256, 10);
        for upload in 0..MOST + 10 {
            sessions.put(key(upload), landing(), &tasks);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(sessions.lock().waiting.len(), MOST);
        assert!(sessions.take(&key(9)).is_none(), "the oldest went");
        assert!(sessions.take(&key(10)).is_some());
        assert!(sessions.take(&key(10)).is_none(), "it is taken once");
        tokio::time::sleep(LIFE - Duration::from_secs(1)).await;
        let mut begun = landing();
        begun.take(&[Bytes::from_static(b"x")]).unwrap();
        sessions.put(key(11), begun, &tasks);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(sessions.lock().waiting.len(), 1, "one was renewed");
        tokio::time::sleep(LIFE).await;
        assert_eq!(sessions.lock().waiting.len(), 0);
        assert!(!sessions.lock().is_swept, "and no task waits for nothing");
        tasks.stop().await;
        store.close();
        assert_eq!(std::fs::read_dir(folder.path().join("cache/fills")).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_begins_many_uploads_ends_none_of_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let store = Store::open(&config).unwrap();
        let (sessions, tasks, room) = (Sessions::default(), TaskGroup::new(), Room::new(store.clone()));
        let landing = || Landing::new(store.clone(), room.share(), Algorithm::Sha256, 10);
        let alices = UploadKey { principal: Principal::Known([1; 32]), ..key(0) };
        sessions.put(alices.clone(), landing(), &tasks);
        for upload in 0..MOST + 10 {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.put(key(upload), landing(), &tasks);
        }
        let long = UploadKey { location: "x".repeat(LONGEST_LOCATION + 1), ..key(0) };
        sessions.put(long.clone(), landing(), &tasks);
        assert_eq!(sessions.lock().waiting.len(), MOST);
        assert!(sessions.take(&alices).is_some() && sessions.take(&long).is_none());
        tasks.stop().await;
        store.close();
    }
}
