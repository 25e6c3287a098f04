//! Paces passwords for a registry that this proxy answers for in its place, as those for the proxy itself.
//!
//! Threat: passwords guessed at the token service that stands in for a registry's, whose tokens tell by what they open
//! whether a guess was right; or, where it verifies, at the registry in this proxy's name. Defence: as in
//! `throttle`, but each offer is counted as it comes and taken back if it was right, so that many at a time gain
//! nothing; and few of one address are looked at together. Whoever is known to have a right waits for nothing.
//! Exposure: as there; besides, others behind an address that guesses wait their turn, unless they are known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::throttle::LoginThrottle;
use crate::host::network;

/// A password that was right is remembered for this time.
const MEMORY: Duration = Duration::from_secs(5 * 60);
const REMEMBERED: u64 = 10_000;
/// At most so many passwords of one address are checked together; the next one waits this long for its turn.
const TOGETHER: usize = 16;
const QUEUE: Duration = Duration::from_secs(10);

/// The recent guesses.
pub(crate) struct Guesses {
    throttle: LoginThrottle,
    right: moka::sync::Cache<[u8; 32], ()>,
    /// Rung when something was right: it may be what others wait with.
    told: Notify,
    turns: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// A guess that has waited long enough: it counts as wrong until its outcome is noted.
pub(crate) struct Guess<'a> {
    guesses: &'a Guesses,
    client: IpAddr,
    user: String,
    credential: [u8; 32],
    turn: Option<OwnedSemaphorePermit>,
}

impl Guesses {
    pub(crate) fn new() -> Self {
        Self {
            throttle: LoginThrottle::new(),
            right: moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(MEMORY).build(),
            told: Notify::new(),
            turns: Mutex::default(),
        }
    }

    /// Waits as long as this offer of `client` has to; `None` where too many of its address do. `credential` is the MAC
    /// of user and password. Cancel-safe, and counted all the same.
    pub(crate) async fn admit(&self, client: IpAddr, user: &str, credential: [u8; 32]) -> Option<Guess<'_>> {
        let wait = self.throttle.wait(client, user);
        self.throttle.failed(client, user);
        let mut guess = Guess { guesses: self, client, user: user.to_owned(), credential, turn: None };
        let turns = self.turns().entry(network(client)).or_insert_with(|| Arc::new(Semaphore::new(TOGETHER))).clone();
        let queue = Instant::now() + QUEUE;
        tokio::select! {
            turn = tokio::time::timeout_at(queue, turns.acquire_owned()) => guess.turn = Some(turn.ok()?.ok()?),
            () = self.is_right(&credential) => return Some(guess),
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.is_right(&credential) => {}
        }
        Some(guess)
    }

    /// Ends once the credential was found right: a fleet that starts together has one.
    async fn is_right(&self, credential: &[u8; 32]) {
        loop {
            let told = self.told.notified();
            if self.right.contains_key(credential) {
                return;
            }
            told.await;
        }
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guess<'_> {
    /// It was right.
    pub(crate) fn was_right(self) {
        self.guesses.throttle.taken_back(self.client, &self.user);
        self.guesses.throttle.succeeded(self.client, &self.user);
        self.guesses.right.insert(self.credential, ());
        self.guesses.told.notify_waiters();
    }

    /// Nobody could say whether it was right.
    pub(crate) fn was_not_judged(self) {
        self.guesses.throttle.taken_back(self.client, &self.user);
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        drop(self.turn.take());
        let mut turns = self.guesses.turns();
        let client = network(self.client);
        // Nobody else has it, and nobody can get it while the map is held.
        if turns.get(&client).is_some_and(|turns| Arc::strong_count(turns) == 1) {
            turns.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    const RIGHT: [u8; 32] = [1; 32];
    const WRONG: [u8; 32] = [2; 32];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How long it takes until a guess may be judged, in milliseconds.
    async fn took(guesses: &Guesses, client: &str, user: &str, credential: [u8; 32]) -> u128 {
        let begun = Instant::now();
        drop(guesses.admit(address(client), user, credential).await.unwrap());
        begun.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_ones_wait_ever_longer_and_right_ones_do_not() {
        let guesses = Guesses::new();
        for expected in [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000] {
            assert_eq!(took(&guesses, "192.0.2.1", "alice", WRONG).await, expected);
        }
        assert_eq!(took(&guesses, "192.0.2.1", "bob", WRONG).await, 0, "another user behind the same address");
        assert_eq!(took(&guesses, "192.0.2.2", "alice", WRONG).await, 0, "the same user from elsewhere");
        guesses.admit(address("192.0.2.1"), "alice", RIGHT).await.unwrap().was_right();
        assert_eq!(took(&guesses, "192.0.2.1", "alice", RIGHT).await, 0);
        assert!(guesses.turns().is_empty(), "no address is remembered for itself");
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_a_time_gain_nothing() {
        let guesses = Guesses::new();
        let begun = Instant::now();
        let all = join_all((0..1000).map(|number| {
            let guesses = &guesses;
            async move { guesses.admit(address("192.0.2.1"), &format!("user{number}"), WRONG).await.is_some() }
        }));
        let judged = all.await.into_iter().filter(|judged| *judged).count();
        assert!(begun.elapsed() >= QUEUE && judged <= 20 + TOGETHER * 4, "{judged}");
        assert!(guesses.turns().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_behind_one_address_with_one_password_waits_for_the_first_of_it_and_locks_nobody_out() {
        let guesses = Guesses::new();
        let begun = Instant::now();
        let fleet = (0..1000).map(|number| {
            let guesses = &guesses;
            async move {
                let guess = guesses.admit(address("192.0.2.1"), "ci", RIGHT).await.unwrap();
                if number == 0 {
                    tokio::time::sleep(Duration::from_millis(100)).await; // the registry is asked
                }
                guess.was_right();
            }
        });
        join_all(fleet).await;
        assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
        assert_eq!(took(&guesses, "192.0.2.1", "alice", WRONG).await, 0, "nothing is left of it");
    }
}
