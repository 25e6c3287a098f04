//! Whether all clients come from one address: behind NAT, `clients.allow` lets everybody in who is behind it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// So many connections from one address and from no other are a gateway's, or a single busy client's.
const MANY: u32 = 1000;

/// Counts until it is told, or until it is known that there are several.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    is_settled: AtomicBool,
    first: Mutex<Option<(IpAddr, u32)>>,
}

impl Gateway {
    /// A connection came. Answers the address if all of so many came from there: once, and not for loopback, where
    /// nobody else is.
    pub(super) fn came(&self, client: IpAddr) -> Option<IpAddr> {
        if client.is_loopback() || self.is_settled.load(Ordering::Relaxed) {
            return None;
        }
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let (address, count) = first.get_or_insert((client, 0));
        *count += 1;
        let is_one = *address == client;
        if is_one && *count < MANY {
            return None;
        }
        let was_settled = self.is_settled.swap(true, Ordering::Relaxed);
        (is_one && !was_settled).then_some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_told_once_and_several_are_not() {
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let gateway = Gateway::default();
        let told: Vec<usize> = (1..3000).filter(|_| gateway.came(one).is_some()).collect();
        assert_eq!(told, [MANY as usize]);
        let gateway = Gateway::default();
        assert!((0..10).all(|_| gateway.came(one).is_none()));
        assert!((0..3000).all(|_| gateway.came(other).is_none() && gateway.came(one).is_none()));
        let gateway = Gateway::default();
        assert!((0..3000).all(|_| gateway.came("127.0.0.1".parse().unwrap()).is_none()));
    }
}
