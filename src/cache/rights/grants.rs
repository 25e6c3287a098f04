//! Remembers which principals have proven that they may read a repository, or one content in it, and when.
//!
//! Kept in memory only, by a MAC under a key that dies with the process: a dump of the grants is no list of
//! credentials.

use std::time::{Duration, Instant};

use super::place::Place;
use super::principal::Principal;
use crate::cache::GrantsConfig;
use crate::host::MacKey;
use crate::oci::Digest;

/// At most so many proofs are remembered.
const CAPACITY: u64 = 1_000_000;
/// And at most so many of one content alone.
const CONTENTS: u64 = 500_000;

/// The proofs.
#[derive(Clone)]
pub struct Grants {
    key: MacKey,
    proofs: moka::sync::Cache<(Place, Principal), Instant>,
    /// Of one content, which says nothing of others in the place. Callers without credentials are all
    /// [`Principal::Anonymous`] here.
    contents: moka::sync::Cache<(Place, Principal, Digest), Instant>,
    /// When the registry last said no: what was asked before that proves nothing any more, however late its
    /// answer is noted.
    denials: moka::sync::Cache<(Place, Principal), Instant>,
}

/// The system has no random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system's random numbers cannot be read")]
pub struct NoMacKey;

impl Grants {
    /// No proofs, under a new key.
    ///
    /// # Errors
    /// [`NoMacKey`].
    pub fn new() -> Result<Self, NoMacKey> {
        let key = MacKey::random().ok_or(NoMacKey)?;
        let remembered =
            || moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(GrantsConfig::LONGEST.0).build();
        let (proofs, denials) = (remembered(), remembered());
        let contents =
            moka::sync::Cache::builder().max_capacity(CONTENTS).time_to_live(GrantsConfig::LONGEST.0).build();
        Ok(Self { key, proofs, contents, denials })
    }

    /// A MAC of `parts` under a key that dies with the process. No two lists of parts have the same.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.key.of(parts)
    }

    /// The principal that has `credential` at `registry`. The same credential at two registries is two principals.
    #[must_use]
    pub fn principal(&self, registry: &str, credential: Option<&[u8]>) -> Principal {
        credential.map_or(Principal::Anonymous, |known| Principal::Known(self.mac(&[registry.as_bytes(), known])))
    }

    /// How long ago `principal` has proven that it may read at `place`. Nobody has none: what is open to all
    /// is public.
    #[must_use]
    pub fn age(&self, place: &Place, principal: &Principal) -> Option<Duration> {
        if principal.is_nobody() {
            return None;
        }
        self.proofs.get(&(place.clone(), principal.clone())).map(|proven| proven.elapsed())
    }

    /// The registry itself said 200 to `principal` at `place`, to something `asked` then.
    pub fn give(&self, place: &Place, principal: &Principal, asked: Instant) {
        let key = (place.clone(), principal.clone());
        let outdated = self.denials.get(&key).is_some_and(|denied| denied >= asked);
        if !principal.is_nobody() && !outdated {
            self.proofs.insert(key, asked);
        }
    }

    /// How long ago `principal` has proven that it may read this content at `place`. Nobody can prove that, too.
    #[must_use]
    pub fn content_age(&self, place: &Place, principal: &Principal, digest: &Digest) -> Option<Duration> {
        let principal = principal.shared();
        let proven = self.contents.get(&(place.clone(), principal.clone(), *digest))?;
        let is_outdated = self.denials.get(&(place.clone(), principal)).is_some_and(|denied| denied >= proven);
        (!is_outdated).then(|| proven.elapsed())
    }

    /// The registry itself has given this content to `principal` at `place`, and may not have been asked for more.
    pub fn give_content(&self, place: &Place, principal: &Principal, digest: &Digest, asked: Instant) {
        self.contents.insert((place.clone(), principal.shared(), *digest), asked);
    }

    /// The registry itself said no to what was `asked` then. A yes to what was asked later stays.
    pub fn revoke(&self, place: &Place, principal: &Principal, asked: Instant) {
        let key = (place.clone(), principal.shared());
        self.denials.insert(key.clone(), asked);
        if self.proofs.get(&key).is_some_and(|proven| proven <= asked) {
            self.proofs.invalidate(&key);
        }
    }

    /// Whether the registry has said no since `asked`.
    #[must_use]
    pub fn is_denied_since(&self, place: &Place, principal: &Principal, asked: Instant) -> bool {
        self.denials.get(&(place.clone(), principal.shared())).is_some_and(|denied| denied >= asked)
    }

    /// Forgets all proofs, as when the registries' configuration changed.
    pub fn clear(&self) {
        self.proofs.invalidate_all();
        self.contents.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(registry: &str) -> Place {
        Place { registry: registry.into(), repository: "team/app".parse().unwrap() }
    }

    #[test]
    fn a_proof_is_for_one_place_and_one_principal() {
        let grants = Grants::new().unwrap();
        let (alice, bob) = (grants.principal("a", Some(b"alice")), grants.principal("a", Some(b"bob")));
        let before = Instant::now();
        let holds = |at: &str, who: &Principal| grants.age(&place(at), who).is_some();
        grants.give(&place("a"), &alice, before);
        assert!(holds("a", &alice));
        assert!(!holds("a", &bob));
        assert!(!holds("b", &alice));
        assert_ne!(alice, grants.principal("b", Some(b"alice")));
        grants.revoke(&place("a"), &alice, Instant::now());
        assert!(!holds("a", &alice));
        grants.give(&place("a"), &alice, before);
        assert!(!holds("a", &alice), "what was asked before the no proves nothing");
        let denied = Instant::now();
        grants.give(&place("a"), &alice, Instant::now());
        grants.revoke(&place("a"), &alice, denied);
        assert!(holds("a", &alice), "what was asked after the no holds");
    }

    #[test]
    fn a_proof_of_one_content_opens_that_content_alone_and_ends_with_a_no() {
        let grants = Grants::new().unwrap();
        let alice = grants.principal("a", Some(b"alice"));
        let [one, other] = [b"1", b"2"].map(|bytes| Digest::of(crate::oci::Algorithm::Sha256, bytes));
        for (who, same) in [(alice.clone(), alice), (Principal::Anonymous, Principal::Anybody)] {
            let before = Instant::now();
            grants.give_content(&place("a"), &who, &one, before);
            assert!(grants.content_age(&place("a"), &same, &one).is_some());
            assert_eq!(grants.content_age(&place("a"), &who, &other), None);
            assert_eq!(grants.content_age(&place("b"), &who, &one), None);
            assert_eq!(grants.age(&place("a"), &who), None, "it says nothing of the place");
            grants.revoke(&place("a"), &who, Instant::now());
            grants.give_content(&place("a"), &who, &one, before);
            assert_eq!(grants.content_age(&place("a"), &same, &one), None, "it was asked before the no");
            grants.give_content(&place("a"), &who, &one, Instant::now());
            assert!(grants.content_age(&place("a"), &same, &one).is_some());
        }
    }

    #[test]
    fn nobody_is_never_granted_anything() {
        let grants = Grants::new().unwrap();
        for nobody in [Principal::Anonymous, Principal::Anybody] {
            grants.give(&place("a"), &nobody, Instant::now());
            assert_eq!(grants.age(&place("a"), &nobody), None);
        }
        grants.give(&place("a"), &Principal::Proxy, Instant::now());
        assert!(grants.age(&place("a"), &Principal::Proxy).is_some());
    }
}
