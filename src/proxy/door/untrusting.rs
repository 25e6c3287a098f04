//! Says which clients do not trust the CA: one line for each client and hour, with a count.
//!
//! A daemon without the CA tries each image of each pod again and again: thousands of handshakes an hour, and one fact.
//! Bound: at most so many clients are known at a time; further ones are said together, under no address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tracing::warn;

use crate::host::TaskGroup;

/// How long the handshakes of a client are counted before they are said again.
const EVERY: Duration = Duration::from_secs(3600);
/// An address and a count take about 100 bytes.
const MOST: usize = 4096;

/// The certificate that a client does not trust.
#[derive(Clone, Debug)]
pub(crate) enum Distrusted {
    /// One that the CA with this fingerprint signed.
    OfOurs(Arc<str>),
    /// The operator's own, for the mirror.
    OfMirror,
}

/// The clients that do not trust the CA, each with the handshakes that it has given up since its last line.
/// `None` stands for all clients beyond the bound.
#[derive(Clone, Debug)]
pub(crate) struct Untrusting(Arc<Mutex<HashMap<Option<IpAddr>, u64>>>, TaskGroup);

impl Distrusted {
    fn fingerprint(&self) -> Option<&str> {
        match self {
            Self::OfOurs(fingerprint) => Some(fingerprint),
            Self::OfMirror => None,
        }
    }

    fn cure(&self) -> &'static str {
        match self {
            Self::OfOurs(_) => {
                "the proxy's CA: install ca.crt on it (GET /ca.crt, compare the fingerprint) and restart its daemon, which reads its CAs only once. If it has it, compare the clocks of both machines and the dates of the CA (pullthrough ca show)"
            }
            Self::OfMirror => {
                "the certificate in mirror.tls: give it the CA that signed that (pullthrough setup CLIENT --mirror URL --apply --ca-file FILE), and let cert_file have the whole chain. If it has it, compare the clocks of both machines and the dates of the certificate"
            }
        }
    }
}

impl Untrusting {
    /// None yet; their hourly lines are among these tasks.
    pub(crate) fn among(tasks: TaskGroup) -> Self {
        Self(Arc::default(), tasks)
    }

    /// Notes that `client` gave up a handshake for `to` by this alert. The first one is said at once, and how many
    /// followed it an hour later, until an hour passes without any.
    pub(crate) fn note(&self, client: IpAddr, to: &str, alert: &str, distrusted: &Distrusted) {
        let mut clients = locked(&self.0);
        let client = Some(client).filter(|_| clients.len() < MOST || clients.contains_key(&Some(client)));
        match clients.entry(client) {
            Entry::Occupied(mut counted) => *counted.get_mut() += 1,
            Entry::Vacant(first) => {
                first.insert(0);
                drop(clients);
                warn!(
                    client = told(client),
                    to,
                    alert,
                    handshakes = 1,
                    fingerprint = distrusted.fingerprint(),
                    "this client does not trust {}",
                    distrusted.cure()
                );
                let hourly = say_hourly(Arc::downgrade(&self.0), client, distrusted.clone());
                self.1.spawn_until_stop(hourly);
            }
        }
    }
}

/// Says each hour how often the client has given up since, and ends with the first hour without any.
async fn say_hourly(
    clients: Weak<Mutex<HashMap<Option<IpAddr>, u64>>>,
    client: Option<IpAddr>,
    distrusted: Distrusted,
) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(clients) = clients.upgrade() else { return };
        let mut clients = locked(&clients);
        let handshakes = clients.get_mut(&client).map(std::mem::take).unwrap_or_default();
        if handshakes == 0 {
            clients.remove(&client);
            return;
        }
        drop(clients);
        warn!(
            client = told(client),
            handshakes,
            fingerprint = distrusted.fingerprint(),
            "this client still does not trust {}",
            distrusted.cure()
        );
    }
}

fn told(client: Option<IpAddr>) -> String {
    client.map_or_else(|| "many others".to_owned(), |client| client.to_string())
}

fn locked<T>(clients: &Mutex<T>) -> MutexGuard<'_, T> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(untrusting: &Untrusting) -> Vec<(Option<IpAddr>, u64)> {
        let mut counts: Vec<_> = locked(&untrusting.0).iter().map(|(client, count)| (*client, *count)).collect();
        counts.sort();
        counts
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_counted_for_an_hour_and_forgotten_after_one_without_a_handshake() {
        let untrusting = Untrusting::among(TaskGroup::new());
        let client: IpAddr = "10.0.0.7".parse().unwrap();
        for _ in 0..5 {
            untrusting.note(client, "quay.io", "unknown CA", &Distrusted::OfOurs("AB".into()));
        }
        assert_eq!(counts(&untrusting), [(Some(client), 4)], "the first one is said");
        tokio::time::sleep(EVERY + Duration::from_secs(1)).await;
        assert_eq!(counts(&untrusting), [(Some(client), 0)], "the others are said after an hour");
        tokio::time::sleep(EVERY).await;
        assert_eq!(counts(&untrusting), []);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_clients_are_said_together() {
        let untrusting = Untrusting::among(TaskGroup::new());
        for number in 0..MOST as u32 + 9 {
            untrusting.note(IpAddr::V4(number.into()), "quay.io", "unknown CA", &Distrusted::OfMirror);
        }
        let counts = counts(&untrusting);
        assert_eq!((counts.len(), counts[0]), (MOST + 1, (None, 8)));
    }
}
