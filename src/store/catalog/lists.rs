//! Records the last lists of tags and referrers, and looks them and the repositories up.

use std::sync::Arc;
use std::time::SystemTime;

use super::change::Change;
use super::entry::{LINK_LIFE, ListEntry};
use super::handle::Catalog;
use super::key::micros;
use super::query;
use crate::oci::Repository;
use crate::store::Error;

impl Catalog {
    /// The last list for the query, if it is no older than 7 days.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn list(
        &self,
        registry: &Arc<str>,
        repository: &Repository,
        target: &Arc<str>,
    ) -> Result<Option<ListEntry>, Error> {
        let (registry, repository, target) = (Arc::clone(registry), repository.clone(), Arc::clone(target));
        let since = micros(SystemTime::now() - LINK_LIFE);
        self.ask("look up a list", move |on| query::list(on, &registry, &repository, &target, since)).await
    }

    /// Records a list, in the place of the last one for its query. It is dropped where too many wait to be written.
    pub fn record_list(&self, mut entry: ListEntry) {
        entry.asked = entry.asked.min(SystemTime::now());
        let room = u32::try_from(1 + (entry.target.len() + entry.body.len()) / 1024).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.list_room).try_acquire_many_owned(room) else { return };
        self.offer(Change::List { entry: Box::new(entry), _room: room });
    }

    /// Removes the list for the query.
    pub fn forget_list(&self, registry: &str, repository: &Repository, target: &Arc<str>) {
        let (registry, repository, target) = (registry.into(), repository.clone(), Arc::clone(target));
        self.offer(Change::ForgetList { registry, repository, target });
    }

    /// The repositories of which a tag or content is known, in order, after the name `after`: at most so many.
    ///
    /// # Errors
    /// As [`Catalog::links`].
    pub async fn repositories(&self, registry: &str, after: &str, most: u32) -> Result<Vec<Repository>, Error> {
        let (registry, after) = (registry.to_owned(), after.to_owned());
        self.ask("list repositories", move |on| query::repositories(on, &registry, &after, most)).await
    }
}
