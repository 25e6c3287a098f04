//! Who has proven that they may read a repository, and for how long that is believed.
//!
//! Kept in memory only, by a MAC under a key that dies with the process: a dump of the grants is no list of
//! credentials.

use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};

use crate::cache::Place;
use crate::store::Learned;

/// How long a proof holds.
const LIFE: Duration = Duration::from_secs(600);
/// So many proofs are remembered at most.
const CAPACITY: u64 = 1_000_000;

/// Whose credentials a request carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody's.
    Anonymous,
    /// Somebody's: a MAC of the credentials as they came.
    Known([u8; 32]),
}

impl Principal {
    /// Whose word an answer to it is, for what is remembered.
    pub(super) fn learns(&self) -> Learned {
        match self {
            Self::Anonymous => Learned::Anonymously,
            Self::Known(_) => Learned::WithCredentials,
        }
    }
}

/// The proofs.
#[derive(Clone)]
pub struct Grants {
    key: hmac::Key,
    proofs: moka::sync::Cache<(Place, Principal), ()>,
    /// When the registry last said no: what was asked before that proves nothing any more, however late its
    /// answer is noted.
    denials: moka::sync::Cache<(Place, Principal), Instant>,
}

/// The system has no random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system's random numbers cannot be read")]
pub struct NoRandom;

impl Grants {
    /// No proofs, under a new key.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn new() -> Result<Self, NoRandom> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).map_err(|_| NoRandom)?;
        let proofs = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(LIFE).build();
        let denials = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(LIFE).build();
        Ok(Self { key, proofs, denials })
    }

    /// Who sends `authorization` to `registry`. The same header at two registries is two principals.
    #[must_use]
    pub fn principal(&self, registry: &str, authorization: Option<&[u8]>) -> Principal {
        let Some(authorization) = authorization else { return Principal::Anonymous };
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(registry.as_bytes());
        mac.update(&[0]); // a registry's name holds no zero byte
        mac.update(authorization);
        let mut known = [0; 32];
        known.copy_from_slice(mac.sign().as_ref());
        Principal::Known(known)
    }

    /// Whether `principal` has proven lately that it may read at `place`. Nobody never has: what is open to
    /// all is said by a link.
    #[must_use]
    pub fn holds(&self, place: &Place, principal: &Principal) -> bool {
        self.proofs.contains_key(&(place.clone(), principal.clone()))
    }

    /// The registry itself said 200 to `principal` at `place`, to something `asked` then.
    pub fn give(&self, place: &Place, principal: &Principal, asked: Instant) {
        let key = (place.clone(), principal.clone());
        let outdated = self.denials.get(&key).is_some_and(|denied| denied >= asked);
        if *principal != Principal::Anonymous && !outdated {
            self.proofs.insert(key, ());
        }
    }

    /// The registry itself said no.
    pub fn revoke(&self, place: &Place, principal: &Principal) {
        let key = (place.clone(), principal.clone());
        self.denials.insert(key.clone(), Instant::now());
        self.proofs.invalidate(&key);
    }

    /// Forgets all proofs, as when the registries' configuration changed.
    pub fn clear(&self) {
        self.proofs.invalidate_all();
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
        grants.give(&place("a"), &alice, before);
        assert!(grants.holds(&place("a"), &alice));
        assert!(!grants.holds(&place("a"), &bob));
        assert!(!grants.holds(&place("b"), &alice));
        assert_ne!(alice, grants.principal("b", Some(b"alice")));
        grants.revoke(&place("a"), &alice);
        assert!(!grants.holds(&place("a"), &alice));
        grants.give(&place("a"), &alice, before);
        assert!(!grants.holds(&place("a"), &alice), "what was asked before the no proves nothing");
        grants.give(&place("a"), &alice, Instant::now());
        assert!(grants.holds(&place("a"), &alice));
    }

    #[test]
    fn nobody_is_never_granted_anything() {
        let grants = Grants::new().unwrap();
        grants.give(&place("a"), &Principal::Anonymous, Instant::now());
        assert!(!grants.holds(&place("a"), &Principal::Anonymous));
    }
}
