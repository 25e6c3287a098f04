//! Bounds how many refusals are written: each, as long as nobody floods the disk with them.
//!
//! Threat: a client sends nothing but what is refused, as fast as it can, and the audit log fills the disk or buries
//! what others did. Bound: each client has a share, by /64 in IPv6, and all together have one; what is beyond it is
//! counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use crate::host::network;

/// Lines at once, and lines a second from then on.
const CLIENT: Rate = Rate { burst: 1000.0, refill: 5.0 };
const ALL: Rate = Rate { burst: 10_000.0, refill: 50.0 };
/// At most so many clients are told apart; further ones share.
const CLIENTS: usize = 1024;

#[derive(Clone, Copy)]
struct Rate {
    burst: f64,
    refill: f64,
}

/// The rest of a share.
struct Share {
    rate: Rate,
    left: f64,
    at: Instant,
}

/// The shares.
pub(crate) struct Ration {
    all: Share,
    clients: HashMap<IpAddr, Share>,
}

impl Ration {
    pub(crate) fn new(now: Instant) -> Self {
        Self { all: Share::new(ALL, now), clients: HashMap::new() }
    }

    /// Whether one more line about `client` is written.
    pub(crate) fn takes(&mut self, client: IpAddr, now: Instant) -> bool {
        let mut client = network(client);
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            self.clients.retain(|_, share| !share.is_full(now));
            if self.clients.len() >= CLIENTS {
                client = Ipv6Addr::UNSPECIFIED.into();
            }
        }
        self.clients.entry(client).or_insert_with(|| Share::new(CLIENT, now)).takes(now) && self.all.takes(now)
    }
}

impl Share {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: rate.burst, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate.refill;
        (self.left, self.at) = ((self.left + gained).min(self.rate.burst), now);
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= self.rate.burst
    }

    fn takes(&mut self, now: Instant) -> bool {
        self.fill(now);
        let takes = self.left >= 1.0;
        self.left -= f64::from(u8::from(takes));
        takes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_hides_nobody_else() {
        let now = Instant::now();
        let mut ration = Ration::new(now);
        let mut taken = |client: &str, seconds| {
            let now = now + Duration::from_secs(seconds);
            let client = client.parse().unwrap();
            (0..2000).filter(|_| ration.takes(client, now)).count()
        };
        assert_eq!(taken("192.0.2.1", 0), 1000);
        assert_eq!(taken("::ffff:192.0.2.1", 10), 50, "the same client, ten seconds later");
        assert_eq!(taken("192.0.2.2", 10), 1000);
        assert_eq!(taken("2001:db8::1", 10), 1000);
        assert_eq!(taken("2001:db8::2", 10), 0, "the same network");
        assert_eq!(taken("192.0.2.1", 1000), 1000, "in the end it is forgiven");
    }

    #[test]
    fn no_number_of_addresses_fills_the_memory_or_the_disk() {
        let now = Instant::now();
        let mut ration = Ration::new(now);
        let clients = (0..30_000_u32).map(|number| IpAddr::from(number.to_be_bytes()));
        let taken = clients.filter(|client| ration.takes(*client, now)).count();
        assert!(ration.clients.len() <= CLIENTS + 1, "{}", ration.clients.len());
        assert!(taken <= 10_000, "{taken}");
    }
}
