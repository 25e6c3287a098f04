//! The held credentials of one registry: picks one of them for a repository.
//!
//! The narrowest entry whose `repositories` name it wins. Between equals the first that is not throttled is
//! taken, so a 429 for one account moves the load to the next.

use std::cmp::Reverse;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::source::CredentialSource;
use super::{Credential, CredentialError, Held};
use crate::host::TaskGroup;
use crate::oci::{Authority, Repository, RepositoryPattern};

/// A credential and what it may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// The credential.
    pub credential: Credential,
    /// Whether its entry's `repositories` name this repository: then what it fetches may be served to callers
    /// who proved nothing. Otherwise it serves public repositories only.
    pub listed: bool,
    entry: usize,
}

/// The entries of one `auth:`.
pub struct Keyring {
    entries: Vec<Entry>,
    throttled: Mutex<Vec<Option<Instant>>>,
}

struct Entry {
    source: CredentialSource,
    repositories: Vec<RepositoryPattern>,
}

impl Keyring {
    /// Makes the entries ready. Reads environment variables and no file.
    ///
    /// # Errors
    /// [`CredentialError::Variable`]; [`CredentialError::Entry`] for what the configuration's check finds
    /// first.
    pub fn new(held: &Held) -> Result<Self, CredentialError> {
        Self::among(&TaskGroup::new(), held)
    }

    /// As [`Keyring::new`]; helpers run, and files are read, among these tasks.
    ///
    /// # Errors
    /// As [`Keyring::new`].
    pub fn among(tasks: &TaskGroup, held: &Held) -> Result<Self, CredentialError> {
        let entry = |config: &super::CredentialConfig| {
            Ok(Entry { source: CredentialSource::new(config, tasks)?, repositories: config.repositories.clone() })
        };
        let entries: Vec<Entry> = held.0.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { throttled: Mutex::new(vec![None; entries.len()]), entries })
    }

    /// The credential to use for `repository` at `server`, the registry's host. `None` where no entry has one.
    /// A source that fails is passed over while another has one. Cancel-safe.
    ///
    /// # Errors
    /// The first failure, where no entry has a credential.
    pub async fn pick(&self, server: &Authority, repository: &Repository) -> Result<Option<Picked>, CredentialError> {
        let mut failure = None;
        for (entry, listed) in self.order(repository) {
            match self.entries[entry].source.credential(server, repository).await {
                Ok(Some(credential)) => return Ok(Some(Picked { credential, listed, entry })),
                Ok(None) => {}
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Whether an entry's `repositories` name this repository.
    #[must_use]
    pub fn lists(&self, repository: &Repository) -> bool {
        self.entries.iter().any(|entry| entry.repositories.iter().any(|pattern| pattern.matches(repository)))
    }

    /// How many entries there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "the configuration's check lets none be empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The upstream answered 429 to this one; others are taken for so long.
    pub fn throttled(&self, picked: &Picked, wait: Duration) {
        if let Some(until) = self.until().get_mut(picked.entry) {
            *until = Some(Instant::now() + wait.min(Duration::from_secs(86_400)));
        }
    }

    /// The upstream answered 401 to this one: its source is asked anew, at most every ten seconds.
    pub fn refused(&self, picked: &Picked) {
        if let Some(entry) = self.entries.get(picked.entry) {
            entry.source.refused();
        }
    }

    /// The entries to try, and whether each names the repository.
    fn order(&self, repository: &Repository) -> Vec<(usize, bool)> {
        let now = Instant::now();
        let throttled: Vec<bool> = self.until().iter().map(|until| until.is_some_and(|until| until > now)).collect();
        let rank = |index: usize, entry: &Entry| {
            let matching = entry.repositories.iter().filter(|pattern| pattern.matches(repository));
            let narrowness = matching.map(RepositoryPattern::narrowness).max();
            let throttled = throttled.get(index).copied().unwrap_or_default();
            (narrowness.is_none(), Reverse(narrowness), throttled, !entry.repositories.is_empty(), index)
        };
        let mut ranks: Vec<_> = self.entries.iter().enumerate().map(|(index, entry)| rank(index, entry)).collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|(unlisted, .., index)| (index, !unlisted)).collect()
    }

    fn until(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.throttled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring of {}", self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn keyring(yaml: &str) -> Keyring {
        Keyring::new(&serde_yaml::from_str(yaml).unwrap()).unwrap()
    }

    async fn picked(keyring: &Keyring, repository: &str) -> Option<Picked> {
        let server = Authority::parse("r.example.com", 443).unwrap();
        keyring.pick(&server, &repository.parse().unwrap()).await.unwrap()
    }

    async fn user(keyring: &Keyring, repository: &str) -> (String, bool) {
        let picked = picked(keyring, repository).await.unwrap();
        (picked.credential.user().unwrap().to_owned(), picked.listed)
    }

    #[tokio::test]
    async fn the_narrowest_entry_wins() {
        let keyring = keyring(
            "[{username: all, password: p}, {username: team, password: p, repositories: [team/*]}, \
              {username: app, password: p, repositories: [other, team/app]}]",
        );
        for (repository, expected) in [
            ("library/alpine", ("all", false)),
            ("team/x", ("team", true)),
            ("team/app", ("app", true)),
            ("other", ("app", true)),
        ] {
            assert_eq!(user(&keyring, repository).await, (expected.0.to_owned(), expected.1), "{repository}");
        }
    }

    #[tokio::test]
    async fn an_entry_for_some_repositories_serves_public_ones_too_but_not_as_listed() {
        let keyring = keyring("{username: team, password: p, repositories: [team/*]}");
        assert_eq!(user(&keyring, "library/alpine").await, ("team".to_owned(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_credential_rests_while_its_equals_work() {
        let keyring = keyring(
            "[{username: a, password: p}, {username: b, password: p}, {username: n, password: p, repositories: [team/*]}]",
        );
        let first = picked(&keyring, "x").await.unwrap();
        keyring.throttled(&first, Duration::from_secs(60));
        assert_eq!(user(&keyring, "x").await.0, "b");
        assert_eq!(user(&keyring, "team/x").await.0, "n");
        let narrow = picked(&keyring, "team/x").await.unwrap();
        keyring.throttled(&narrow, Duration::from_secs(60));
        assert_eq!(user(&keyring, "team/x").await.0, "n", "another's rights may be too narrow");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(user(&keyring, "x").await.0, "a");
    }

    #[tokio::test]
    async fn a_source_without_an_answer_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        fs::write(&file, "{}").unwrap();
        let list = format!(
            "[{{docker_config: {0}/config.json}}, {{username: u, password_file: {0}/none}}, {{username: last, password: p}}]",
            folder.path().display()
        );
        assert_eq!(user(&keyring(&list), "x").await.0, "last");
        assert_eq!(picked(&keyring(&format!("{{docker_config: {}}}", file.display())), "x").await, None);
        let broken = keyring(&format!("{{username: u, password_file: {}/none}}", folder.path().display()));
        let server = Authority::parse("r.example.com", 443).unwrap();
        let error = broken.pick(&server, &"x".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, CredentialError::File { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotated_password_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "one\nignored\n").unwrap();
        let keyring = keyring(&format!("{{username: u, password_file: {}}}", file.display()));
        let password = async || match picked(&keyring, "x").await.unwrap().credential {
            Credential::Password { password, .. } => password.expose().to_owned(),
            Credential::Identity { .. } => panic!("no password"),
        };
        assert_eq!(password().await, "one");
        fs::write(&file, "second\r\n").unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(password().await, "second");
        fs::remove_file(&file).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(password().await, "second", "a file that is away for a moment changes nothing");
    }

    #[test]
    fn a_variable_that_is_not_set_is_told_at_once() {
        let held = serde_yaml::from_str("{username: u, password_env: PULLTHROUGH_NO_SUCH_VARIABLE}").unwrap();
        assert!(matches!(Keyring::new(&held), Err(CredentialError::Variable { .. })));
    }
}
