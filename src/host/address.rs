//! Finds the address at which this machine reaches its own listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address itself, or loopback if the listener is on every address.
#[must_use]
pub fn reached_at(listening: SocketAddr) -> SocketAddr {
    let host = if listening.ip().is_unspecified() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { listening.ip() };
    SocketAddr::from((host, listening.port()))
}

/// The network of a client that counts as one: an address of IPv4, or the /64 of one of IPv6, which a single machine has.
#[must_use]
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_every_address_becomes_the_loopback() {
        for (listening, expected) in [
            ("0.0.0.0:3128", "127.0.0.1:3128"),
            ("[::]:3128", "127.0.0.1:3128"),
            ("10.20.0.5:3128", "10.20.0.5:3128"),
            ("[2001:db8::1]:3128", "[2001:db8::1]:3128"),
        ] {
            assert_eq!(reached_at(listening.parse().unwrap()).to_string(), expected);
        }
    }
}
