//! Remembers by what each right was last proven: while that is given, a refusal of something else says nothing of the right.

use std::sync::Arc;
use std::time::Duration;

use super::place::Place;
use super::principal::Principal;
use crate::cache::source::Subject;
use crate::oci::Digest;
use crate::store::Store;

/// So many for each right: one may be gone from the registry meanwhile.
const EACH: usize = 2;
/// And so many tags of a restart before: one more, since one of them may be what is refused.
const TAGS: u32 = 3;
const CAPACITY: u64 = 200_000;
/// As long as the longest right.
const LIFE: Duration = Duration::from_secs(7 * 86_400);

/// What is known to be there, for each place and principal. Callers without credentials are all one here.
pub(crate) struct Witnesses {
    latest: moka::sync::Cache<(Place, Principal), Arc<[Subject]>>,
    /// The tags of a restart before, for what anybody may read: other rights are in memory only.
    store: Store,
}

impl Witnesses {
    pub(crate) fn new(store: Store) -> Self {
        Self { latest: moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(LIFE).build(), store }
    }

    /// The registry gave it.
    pub(crate) fn note(&self, place: &Place, principal: &Principal, subject: &Subject) {
        self.latest.entry((place.clone(), principal.shared())).and_upsert_with(|before| {
            let before = before.map(moka::Entry::into_value).unwrap_or_default();
            let others = before.iter().filter(|one| !is_same(one, subject)).cloned();
            std::iter::once(subject.clone()).chain(others).take(EACH).collect()
        });
    }

    /// Whether it is one of them.
    pub(crate) fn holds(&self, place: &Place, principal: &Principal, subject: &Subject) -> bool {
        let known = self.latest.get(&(place.clone(), principal.shared()));
        known.is_some_and(|known| known.iter().any(|one| is_same(one, subject)))
    }

    /// Those besides the `subject`, the latest first. Of a public place, the catalog knows some after a restart.
    pub(crate) async fn others(
        &self,
        place: &Place,
        principal: &Principal,
        subject: &Subject,
        is_public: bool,
    ) -> Vec<Subject> {
        let known = self.latest.get(&(place.clone(), principal.shared())).unwrap_or_default();
        let known: Vec<_> = if known.is_empty() && is_public {
            // In doubt there is none, and a refusal counts.
            let tags = self.store.catalog().latest_tags(&place.registry, &place.repository, TAGS).await;
            tags.unwrap_or_default().into_iter().map(|(tag, accept)| Subject::Tag(tag, accept)).collect()
        } else {
            known.to_vec()
        };
        known.into_iter().filter(|one| !is_same(one, subject)).take(EACH).collect()
    }
}

/// A tag is one thing, whatever is accepted.
fn is_same(one: &Subject, other: &Subject) -> bool {
    let digest = |subject: &Subject| -> Option<Digest> {
        match subject {
            Subject::Tag(..) => None,
            Subject::Manifest(digest) | Subject::Blob(digest) => Some(*digest),
        }
    };
    match (one, other) {
        (Subject::Tag(one, _), Subject::Tag(other, _)) => one == other,
        _ => digest(one).is_some() && digest(one) == digest(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Percent, Size};
    use crate::oci::{Accept, Algorithm};
    use crate::store;

    #[tokio::test]
    async fn the_latest_that_was_given_besides_what_is_refused_is_a_witness() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            store::Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 20)), min_free: Percent(0) };
        let store = Store::open(&config).unwrap();
        let witnesses = Witnesses::new(store.clone());
        let place = Place { registry: "quay.io".into(), repository: "a".parse().unwrap() };
        let [one, two, three] = ["1", "2", "3"].map(|tag| Subject::Tag(tag.parse().unwrap(), Accept::EVERYTHING));
        let blob = Subject::Blob(Digest::of(Algorithm::Sha256, b"b"));
        let nobody = Principal::Anonymous;
        assert_eq!(witnesses.others(&place, &nobody, &one, true).await, []);
        for subject in [&one, &blob, &two, &blob] {
            witnesses.note(&place, &Principal::Anybody, subject);
        }
        assert_eq!(witnesses.others(&place, &nobody, &three, false).await, [blob.clone(), two.clone()]);
        assert_eq!(witnesses.others(&place, &nobody, &blob, false).await, std::slice::from_ref(&two));
        assert!(witnesses.holds(&place, &nobody, &two) && !witnesses.holds(&place, &nobody, &one));
        assert_eq!(witnesses.others(&place, &Principal::Proxy, &three, false).await, [], "another's say nothing");
        store.close();
    }
}
