//! A MAC of secrets under a key that dies with the process: they can be compared by it, and nobody reads them from it.

use aws_lc_rs::{hmac, rand};

/// The key.
#[derive(Clone, Debug)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// A new key; `None` if the system has no random numbers.
    #[must_use]
    pub fn random() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok().map(Self)
    }

    /// The MAC of a list of parts. No two lists have the same, whatever is in their parts: each goes in after its length.
    #[must_use]
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = hmac::Context::with_key(&self.0);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(mac.sign().as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_parts_under_the_same_key_have_the_same_mac() {
        let (key, other) = (MacKey::random().unwrap(), MacKey::random().unwrap());
        let mac = key.of(&[b"ab", b"c"]);
        assert_eq!(mac, key.of(&[b"ab", b"c"]));
        let others: [&[&[u8]]; 4] = [&[b"a", b"bc"], &[b"abc"], &[b"ab", b"c", b""], &[b"c", b"ab"]];
        assert!(others.iter().all(|parts| key.of(parts) != mac));
        assert_ne!(other.of(&[b"ab", b"c"]), mac);
    }
}
