//! Remembers which member of a group had a content, so that the next question for it goes there first.
//!
//! It is a hint for content that is named by its digest, and decides no permission: the member is asked like any other. What
//! no digest verifies, a tag or a list, is asked for in the configured order always, so that no registry can take a name over
//! by answering first once.
//!
//! Threat: a registry further down says that it has everything, and so hides what those above it have. Defence: what it has
//! is noted once its content came whole, and so verified; the order holds again where that breaks, or where it fails.

use std::sync::Arc;

use crate::oci::{Authority, Digest};

/// Clients choose the names: so many are remembered.
const LIMIT: u64 = 16_384;

/// The members that answered. Clones share it.
#[derive(Clone)]
pub(crate) struct GroupMemory(moka::sync::Cache<Key, Authority>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    group: Arc<str>,
    written: Arc<str>,
    digest: Option<Digest>,
}

impl GroupMemory {
    pub(crate) fn new() -> Self {
        Self(moka::sync::Cache::new(LIMIT))
    }

    /// The member that answered this digest before under this name, else the last one that had any content there.
    pub(crate) fn member(&self, group: &Arc<str>, written: &Arc<str>, digest: &Digest) -> Option<Authority> {
        let key = |digest| Key { group: group.clone(), written: written.clone(), digest };
        self.0.get(&key(Some(*digest))).or_else(|| self.0.get(&key(None)))
    }

    /// Whether nothing would be new if `member` had this content.
    pub(crate) fn knows(&self, group: &Arc<str>, written: &Arc<str>, digest: Digest, member: &Authority) -> bool {
        let keys = keys(group, written, digest);
        keys.iter().all(|key| self.0.get(key).as_ref() == Some(member))
    }

    /// Notes that `member` has answered with this content, which was verified.
    pub(crate) fn note(&self, group: &Arc<str>, written: &Arc<str>, digest: Digest, member: &Authority) {
        for key in keys(group, written, digest) {
            if self.0.get(&key).as_ref() != Some(member) {
                self.0.insert(key, member.clone());
            }
        }
    }

    /// Forgets `member`, which broke off with this content or had another.
    pub(crate) fn forget(&self, group: &Arc<str>, written: &Arc<str>, digest: Digest, member: &Authority) {
        for key in keys(group, written, digest) {
            if self.0.get(&key).as_ref() == Some(member) {
                self.0.invalidate(&key);
            }
        }
    }
}

/// What is noted of a digest: of itself, and of its repository.
fn keys(group: &Arc<str>, written: &Arc<str>, digest: Digest) -> [Key; 2] {
    [Some(digest), None].map(|digest| Key { group: group.clone(), written: written.clone(), digest })
}

/// What is the same for all members, and the one that is asked first moved to the front.
pub(crate) fn first<T>(mut all: Vec<T>, is_first: impl Fn(&T) -> bool) -> Vec<T> {
    if let Some(at) = all.iter().position(is_first) {
        all[..=at].rotate_right(1);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_member_that_had_a_digest_is_known_by_it_and_else_by_its_repository() {
        let (memory, group) = (GroupMemory::new(), Arc::from("all.example.org"));
        let member = |text: &str| Authority::parse(text, 443).unwrap();
        let digest = |text: &str| Digest::of(Algorithm::Sha256, text.as_bytes());
        let (app, other): (Arc<str>, Arc<str>) = ("team/app".into(), "team/other".into());
        assert_eq!(memory.member(&group, &app, &digest("1")), None);
        memory.note(&group, &app, digest("1"), &member("a.example"));
        memory.note(&group, &app, digest("2"), &member("b.example"));
        assert_eq!(memory.member(&group, &app, &digest("1")), Some(member("a.example")));
        assert_eq!(memory.member(&group, &app, &digest("3")), Some(member("b.example")));
        assert_eq!(memory.member(&group, &other, &digest("1")), None);
        assert_eq!(memory.member(&"/hub".into(), &app, &digest("1")), None);
        assert!(memory.knows(&group, &app, digest("2"), &member("b.example")));
        assert!(
            !memory.knows(&group, &app, digest("1"), &member("a.example")),
            "the repository is another's meanwhile"
        );
        memory.forget(&group, &app, digest("3"), &member("a.example"));
        assert_eq!(memory.member(&group, &app, &digest("3")), Some(member("b.example")));
        memory.forget(&group, &app, digest("3"), &member("b.example"));
        assert_eq!(memory.member(&group, &app, &digest("3")), None);
        assert_eq!(memory.member(&group, &app, &digest("2")), Some(member("b.example")));
    }

    #[test]
    fn one_goes_to_the_front_and_the_others_keep_their_order() {
        assert_eq!(first(vec![1, 2, 3, 4], |one| *one == 3), [3, 1, 2, 4]);
        assert_eq!(first(vec![1, 2], |one| *one == 1), [1, 2]);
        assert_eq!(first(vec![1, 2], |one| *one == 9), [1, 2]);
    }
}
