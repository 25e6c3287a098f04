//! The token services of a registry, as its challenges name them.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::oci::Authority;
use crate::upstream::Realm;

/// So many are remembered.
const CAPACITY: usize = 16;

/// The hosts and paths that challenges have named.
#[derive(Debug, Default)]
pub(crate) struct Realms(VecDeque<NamedRealm>);

#[derive(Debug)]
struct NamedRealm {
    host: Authority,
    path: String,
    /// When it was named last.
    named: Instant,
}

impl Realms {
    /// Remembers a challenge's realm.
    pub(crate) fn note(&mut self, url: &str) {
        let Ok(realm) = url.parse::<Realm>() else { return };
        let (host, path, named) = (realm.authority(), realm.path(), Instant::now());
        if let Some(known) = self.0.iter_mut().find(|known| known.host == *host && known.path == path) {
            known.named = named;
            return;
        }
        if self.0.len() >= CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(NamedRealm { host: host.clone(), path: path.to_owned(), named });
    }

    /// Whether a challenge has named one at `host` since.
    pub(crate) fn is_named_since(&self, host: &Authority, since: Instant) -> bool {
        self.0.iter().any(|known| known.host == *host && known.named > since)
    }

    /// Whether `path` at `host` is one of them; of a host that no challenge has named yet, each is.
    pub(crate) fn is_one(&self, host: &Authority, path: &str) -> bool {
        let mut named = self.0.iter().filter(|known| known.host == *host).peekable();
        named.peek().is_none() || named.any(|known| known.path == path)
    }

    /// A path of `host` to ask whether it is there.
    pub(crate) fn path(&self, host: &Authority) -> String {
        let named = self.0.iter().rev().find(|known| known.host == *host);
        named.map_or_else(|| "/".to_owned(), |known| known.path.clone())
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
