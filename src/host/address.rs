//! Finds the address at which this machine reaches its own listener, and the addresses that the machine has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address itself, or loopback if the listener is on every address.
#[must_use]
pub fn reached_at(listening: SocketAddr) -> SocketAddr {
    let host = if listening.ip().is_unspecified() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { listening.ip() };
    SocketAddr::from((host, listening.port()))
}

/// More are a machine of many networks, such as a node of a cluster: their names are for `mirror.names`.
const MOST: usize = 64;

/// The addresses of this machine's interfaces, in order, without those that are valid on one link only or that change by
/// themselves. Empty where the system does not tell (only Linux does).
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let mut all = ipv4(&read("/proc/net/fib_trie"));
    all.extend(ipv6(&read("/proc/net/if_inet6")));
    all.sort();
    all.dedup();
    all.truncate(MOST);
    all
}

/// A local address is a leaf of the tree whose next line says so.
fn ipv4(table: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf.filter(|address| !address.is_link_local()).map(IpAddr::from));
        }
    }
    found
}

/// Address, interface, length of the prefix, scope, flags, name.
fn ipv6(table: &str) -> Vec<IpAddr> {
    const LINK: &str = "20";
    const TEMPORARY: u8 = 0x01;
    let parsed = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[address, _, _, scope, flags, ..] = fields.as_slice() else { return None };
        let is_temporary = u8::from_str_radix(flags, 16).ok()? & TEMPORARY != 0;
        let address = Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?);
        (scope != LINK && !is_temporary).then_some(IpAddr::from(address))
    };
    table.lines().filter_map(parsed).collect()
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
    fn the_machines_addresses_are_those_that_stay_and_are_valid_elsewhere() {
        let four = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.0\n        /8 host LOCAL\n        |-- 127.0.0.1\n           \
                    /32 host LOCAL\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.5\n        /32 host LOCAL\n     \
                    |-- 10.0.0.255\n        /32 link BROADCAST\n     |-- 169.254.0.7\n        /32 host LOCAL\n";
        assert_eq!(ipv4(four), ["127.0.0.1", "10.0.0.5"].map(|text| text.parse::<IpAddr>().unwrap()));
        let six = "00000000000000000000000000000001 01 80 10 80       lo\n20010db8000000000000000000000005 02 40 00 80 eth0\n\
                   20010db800000000abcd000000000001 02 40 00 01 eth0\nfe800000000000000000000000000001 02 40 20 80 eth0\nx\n";
        assert_eq!(ipv6(six), ["::1", "2001:db8::5"].map(|text| text.parse::<IpAddr>().unwrap()));
    }

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
