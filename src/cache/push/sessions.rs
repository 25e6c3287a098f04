//! Keeps what has landed of chunked uploads between two of their requests: bounded in number and time.
//!
//! Threat: clients that begin uploads and never end them hold files and space. Exposure: at most [`MOST`] files, for [`LIFE`]
//! without a request; their bytes count as the cache's. Whatever order the requests of an upload come in, and however many at a
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
pub(crate) struct Sessions(Arc<Mutex<HashMap<UploadKey, Waiting>>>);

struct Waiting {
    since: Instant,
    landing: Landing,
}

impl Sessions {
    /// Takes out what has landed of it. A second request at the same time finds nothing.
    pub(crate) fn take(&self, key: &UploadKey) -> Option<Landing> {
        self.lock().remove(key).map(|waiting| waiting.landing)
    }

    /// Keeps what has landed of it for its next request.
    pub(crate) fn put(&self, key: UploadKey, landing: Landing, tasks: &TaskGroup) {
        let since = Instant::now();
        let (replaced, displaced) = {
            let mut waiting = self.lock();
            let oldest = (waiting.len() >= MOST).then(|| waiting.iter().min_by_key(|(_, one)| one.since)).flatten();
            let oldest = oldest.map(|(key, _)| key.clone());
            let displaced = oldest.and_then(|oldest| waiting.remove(&oldest));
            (waiting.insert(key.clone(), Waiting { since, landing }), displaced)
        };
        drop((replaced, displaced)); // their files are removed without the lock
        let sessions = self.clone();
        tasks.spawn_until_stop(async move {
            tokio::time::sleep(LIFE).await;
            let is_same = |waiting: &Waiting| waiting.since == since;
            let old = {
                let mut waiting = sessions.lock();
                if waiting.get(&key).is_some_and(is_same) { waiting.remove(&key) } else { None }
            };
            drop(old);
        });
    }

    /// Gives all of them up.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UploadKey, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
        let landing = || Landing::new(store.clone(), Algorithm::Sha256, 10);
        for upload in 0..MOST + 10 {
            sessions.put(key(upload), landing(), &tasks);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(sessions.lock().len(), MOST);
        assert!(sessions.take(&key(9)).is_none(), "the oldest went");
        assert!(sessions.take(&key(10)).is_some());
        assert!(sessions.take(&key(10)).is_none(), "it is taken once");
        tokio::time::sleep(LIFE - Duration::from_secs(1)).await;
        let mut begun = landing();
        begun.take(&[Bytes::from_static(b"x")]).unwrap();
        sessions.put(key(11), begun, &tasks);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(sessions.lock().len(), 1, "one was renewed");
        tokio::time::sleep(LIFE).await;
        assert_eq!(sessions.lock().len(), 0);
        tasks.stop().await;
        store.close();
        assert_eq!(std::fs::read_dir(folder.path().join("cache/fills")).unwrap().count(), 0);
    }
}
