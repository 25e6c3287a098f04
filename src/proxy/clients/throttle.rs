//! Says how long a login waits after others that failed.
//!
//! Threat: passwords guessed through an open door. Defence: failures are counted by address and user together,
//! and by each alone, and every one above a few doubles the wait, up to four seconds. Exposure: many addresses
//! guessing for many users. Cost: a bounded table; a client whose password is remembered never waits.

use std::net::IpAddr;
use std::time::Duration;

use crate::host::Backoff;
use crate::host::network;

/// So many failures together may be typing errors.
const FREE_TOGETHER: u32 = 3;
/// An address may be a whole office, and a user a whole fleet.
const FREE_ALONE: u32 = 20;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(4));
/// Failures are forgotten after so long without another.
const MEMORY: Duration = Duration::from_secs(15 * 60);
const CAPACITY: u64 = 30_000;
/// A longer name is of no user: they share one count.
const USER_LIMIT: usize = 255;

/// The recent failures.
pub(crate) struct LoginThrottle {
    failures: moka::sync::Cache<FailureKey, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum FailureKey {
    Both(IpAddr, Box<str>),
    Address(IpAddr),
    User(Box<str>),
}

impl LoginThrottle {
    pub(crate) fn new() -> Self {
        Self { failures: moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(MEMORY).build() }
    }

    /// How long this login must wait.
    pub(crate) fn wait(&self, client: IpAddr, user: &str) -> Duration {
        let waits = keys(client, user).map(|(key, free)| wait(self.failures.get(&key).unwrap_or(0), free));
        waits.into_iter().max().unwrap_or_default()
    }

    pub(crate) fn failed(&self, client: IpAddr, user: &str) {
        for (key, _) in keys(client, user) {
            self.failures
                .entry(key)
                .and_upsert_with(|count| count.map_or(1, |count| count.into_value().saturating_add(1)));
        }
    }

    /// Takes back a failure that was counted in advance.
    pub(crate) fn taken_back(&self, client: IpAddr, user: &str) {
        for (key, _) in keys(client, user) {
            self.failures
                .entry(key)
                .and_upsert_with(|count| count.map_or(0, |count| count.into_value().saturating_sub(1)));
        }
    }

    /// After a success, earlier failures were typing errors; that says nothing of others at the same address.
    pub(crate) fn succeeded(&self, client: IpAddr, user: &str) {
        let [(both, _), ..] = keys(client, user);
        self.failures.invalidate(&both);
    }
}

fn keys(client: IpAddr, user: &str) -> [(FailureKey, u32); 3] {
    let client = network(client);
    let user: Box<str> = if user.len() <= USER_LIMIT { user.into() } else { "".into() };
    [
        (FailureKey::Both(client, user.clone()), FREE_TOGETHER),
        (FailureKey::Address(client), FREE_ALONE),
        (FailureKey::User(user), FREE_ALONE),
    ]
}

fn wait(failures: u32, free: u32) -> Duration {
    failures.checked_sub(free).map_or(Duration::ZERO, |excess| BACKOFF.nth(excess))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn waits(throttle: &LoginThrottle, client: &str, user: &str) -> u128 {
        throttle.wait(address(client), user).as_millis()
    }

    #[test]
    fn each_failure_above_a_few_doubles_the_wait_up_to_a_bound() {
        let throttle = LoginThrottle::new();
        for expected in [0, 0, 0, 250, 500, 1000, 2000, 4000, 4000] {
            assert_eq!(waits(&throttle, HERE, "alice"), expected);
            throttle.failed(address(HERE), "alice");
        }
        assert_eq!(waits(&throttle, HERE, "bob"), 0, "another user at the same address");
        assert_eq!(waits(&throttle, "192.0.2.2", "alice"), 0, "the same user from elsewhere");
        throttle.succeeded(address(HERE), "alice");
        assert_eq!(waits(&throttle, HERE, "alice"), 0);
    }

    #[test]
    fn many_users_of_one_address_and_many_addresses_of_one_user_wait_too() {
        let throttle = LoginThrottle::new();
        for number in 0..21 {
            throttle.failed(address(HERE), &format!("user{number}"));
            throttle.failed(address(&format!("198.51.100.{number}")), "root");
        }
        assert!(waits(&throttle, HERE, "new") > 0);
        assert!(waits(&throttle, "203.0.113.9", "root") > 0);
        assert_eq!(waits(&throttle, "203.0.113.9", "new"), 0);
    }

    #[test]
    fn an_address_is_its_network_however_it_is_written() {
        assert_eq!(network(address("::ffff:192.0.2.1")), address(HERE));
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
        assert_eq!(wait(u32::MAX, 3), Duration::from_secs(4));
    }
}
