//! The token services of a registry, as its challenges name them.

use std::collections::VecDeque;

use crate::oci::Authority;
use crate::upstream::Realm;

/// So many are remembered.
const CAPACITY: usize = 16;

/// The hosts and paths that challenges have named.
#[derive(Debug, Default)]
pub(crate) struct Realms(VecDeque<(Authority, String)>);

impl Realms {
    /// Remembers a challenge's realm.
    pub(crate) fn note(&mut self, url: &str) {
        let Ok(realm) = url.parse::<Realm>() else { return };
        let named = (realm.authority().clone(), realm.path().to_owned());
        if self.0.contains(&named) {
            return;
        }
        if self.0.len() >= CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(named);
    }

    /// Whether `path` at `host` is one of them; of a host that no challenge has named yet, each is.
    pub(crate) fn is_one(&self, host: &Authority, path: &str) -> bool {
        let mut named = self.0.iter().filter(|(named, _)| named == host).peekable();
        named.peek().is_none() || named.any(|(_, known)| known == path)
    }

    /// A path of `host` to ask whether it is there.
    pub(crate) fn path(&self, host: &Authority) -> String {
        let named = self.0.iter().rev().find(|(named, _)| named == host);
        named.map_or_else(|| "/".to_owned(), |(_, path)| path.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_was_named_has_tokens_there_alone_and_no_number_of_names_fills_the_memory() {
        let auth = Authority::parse("auth.test", 443).unwrap();
        let mut realms = Realms::default();
        assert!(realms.is_one(&auth, "/token") && realms.path(&auth) == "/");
        realms.note("https://auth.test/token?x=y");
        realms.note("http://auth.test/plain");
        assert!(
            realms.is_one(&auth, "/token") && !realms.is_one(&auth, "/slow/page") && !realms.is_one(&auth, "/plain")
        );
        assert_eq!(realms.path(&auth), "/token");
        for number in 0..10 * CAPACITY {
            realms.note(&format!("https://h{number}.test/token"));
        }
        assert_eq!(realms.0.len(), CAPACITY);
    }
}
