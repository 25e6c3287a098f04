//! Who is who in the lab: people with a password for each registry, what they may read, what they were handed.

use std::sync::Mutex;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};

/// An account of somebody at one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
}

/// May push, and pull what is private, on each registry.
pub(crate) const OWNER: Person = Person { name: "lab", password: "lab" };
/// May pull what is private on Docker Hub.
pub(crate) const ALICE: Person = Person { name: "alice", password: "canary-of-alice-at-the-hub" };
/// Known to Docker Hub; may pull there what everybody may.
pub(crate) const BOB: Person = Person { name: "bob", password: "canary-of-bob-at-the-hub" };
/// The same Alice on the registry behind htpasswd, where she has another password.
pub(crate) const ALICE_THERE: Person = Person { name: "alice", password: "canary-of-alice-elsewhere" };
/// Not in that htpasswd.
pub(crate) const BOB_THERE: Person = Person { name: "bob", password: "canary-of-bob-elsewhere" };

impl Person {
    /// `name:password`.
    pub(crate) fn pair(self) -> String {
        format!("{}:{}", self.name, self.password)
    }

    /// The same in base64, as headers and clients' files have it.
    pub(crate) fn encoded(self) -> String {
        BASE64_STANDARD.encode(self.pair())
    }

    /// The same name with a password that is none.
    pub(crate) fn mistyped(self) -> Self {
        Self { password: "not-the-password", ..self }
    }
}

struct Account {
    person: Person,
    writes: bool,
    reads_private: bool,
    refresh: String,
}

/// The accounts of the token service.
pub(super) struct Accounts {
    known: Mutex<Vec<Account>>,
    issued: Mutex<Vec<String>>,
}

/// What somebody brought to the token service.
pub(super) enum Credential {
    Pair(String),
    Refresh(String),
}

/// What a known person may do with what is private, and the refresh token that a login is given.
pub(super) struct Rights {
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) refresh: String,
}

impl Accounts {
    /// The owner, Alice and Bob.
    pub(super) fn new() -> Self {
        let account = |person, writes, reads_private| {
            let mut random = [0; 24];
            SystemRandom::new().fill(&mut random).unwrap();
            let refresh = format!("refresh-{}", BASE64_URL_SAFE_NO_PAD.encode(random));
            Account { person, writes, reads_private, refresh }
        };
        let known = vec![account(OWNER, true, true), account(ALICE, false, true), account(BOB, false, false)];
        Self { known: Mutex::new(known), issued: Mutex::default() }
    }

    /// The rights of whom a credential is; none if it is nobody's.
    pub(super) fn verify(&self, credential: &Credential) -> Option<Rights> {
        let known = self.known.lock().unwrap();
        let account = known.iter().find(|account| match credential {
            Credential::Pair(pair) => account.person.pair() == *pair,
            Credential::Refresh(token) => account.refresh == *token,
        })?;
        Some(Rights { reads: account.reads_private, writes: account.writes, refresh: account.refresh.clone() })
    }

    /// `person` may read what is private no more.
    pub(super) fn withdraw(&self, person: Person) {
        let mut known = self.known.lock().unwrap();
        known.iter_mut().filter(|account| account.person == person).for_each(|account| account.reads_private = false);
    }

    /// `person` is unknown from now on.
    pub(super) fn remove(&self, person: Person) {
        self.known.lock().unwrap().retain(|account| account.person != person);
    }

    /// Notes a token that was handed to somebody.
    pub(super) fn note(&self, token: &str) {
        self.issued.lock().unwrap().push(token.to_owned());
    }

    /// Every token that was handed to somebody who is known, refresh tokens included.
    pub(super) fn issued(&self) -> Vec<String> {
        self.issued.lock().unwrap().clone()
    }
}
