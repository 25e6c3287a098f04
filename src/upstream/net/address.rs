//! The kinds of addresses, and what it takes to dial each of them.
//!
//! Threat: a name, a redirect or a spelling that leads a client through us to what only this machine, its
//! network or its cloud may see. Defence: every address is one kind; IPv4 carried inside IPv6 is judged as
//! the IPv4 address that it reaches, and of several readings the strictest counts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A kind of address (IANA special-purpose address registries; RFC 6890).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// Reachable over the Internet.
    Global,
    /// Private use: 10/8, 172.16/12, 192.168/16, fc00::/7, fec0::/10.
    Private,
    /// Shared by a provider's customers: 100.64/10.
    Shared,
    /// For documentation.
    Documentation,
    /// For benchmarks: 198.18/15, 2001:2::/48.
    Benchmarking,
    /// To a group.
    Multicast,
    /// To everybody: 255.255.255.255.
    Broadcast,
    /// Not for use as a destination today.
    Reserved,
    /// This machine.
    Loopback,
    /// This link: 169.254/16, fe80::/10.
    LinkLocal,
    /// A cloud's metadata service, which hands out credentials.
    Metadata,
    /// No address at all: 0/8 and `::`, which some systems take for this machine.
    Unspecified,
}

/// What it takes to dial an address, from nothing to impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    Nothing,
    /// `tunnel.allow` names the host, the address or its network; or the registry is named exactly.
    Naming,
    /// `tunnel.allow` or an `address` names the very address.
    VeryAddress,
    /// Not to be had.
    Impossible,
}

impl AddressKind {
    /// The kind of `address`; of an IPv6 address that carries IPv4 addresses, the strictest kind of these.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        forms(address).into_iter().map(plain).max_by_key(|kind| kind.needs()).unwrap_or(Self::Reserved)
    }

    pub(crate) fn needs(self) -> Needs {
        match self {
            Self::Global => Needs::Nothing,
            Self::Private
            | Self::Shared
            | Self::Documentation
            | Self::Benchmarking
            | Self::Multicast
            | Self::Broadcast
            | Self::Reserved => Needs::Naming,
            Self::Loopback | Self::LinkLocal | Self::Metadata => Needs::VeryAddress,
            Self::Unspecified => Needs::Impossible,
        }
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "a global address",
            Self::Private => "a private address",
            Self::Shared => "an address shared by a provider's customers",
            Self::Documentation => "an address for documentation",
            Self::Benchmarking => "an address for benchmarks",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Reserved => "a reserved address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata address",
            Self::Unspecified => "no address of any host",
        })
    }
}

/// What an address reaches: the IPv4 addresses that it carries, or else itself. Never empty.
pub(crate) fn forms(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return vec![address] };
    let carried = carried(v6);
    if carried.is_empty() { vec![address] } else { carried.into_iter().map(IpAddr::V4).collect() }
}

fn carried(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let b = address.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| b[place]));
    let last = at([12, 13, 14, 15]);
    match address.segments() {
        // `::` and `::1` are themselves; everything else under ::/96 is IPv4-compatible (RFC 4291, 2.5.5.1).
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => vec![last],
        [0, 0, 0, 0, 0xffff, 0, _, _] => vec![last], // IPv4-translated (RFC 2765)
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => vec![last],
        [0x64, 0xff9b, 1, ..] => nat64_local(&b),
        [0x2002, ..] => vec![at([2, 3, 4, 5])],
        // Teredo (RFC 4380): the server, and the client with every bit flipped.
        [0x2001, 0, ..] => vec![at([4, 5, 6, 7]), Ipv4Addr::from(!u32::from(last))],
        // ISATAP (RFC 5214): an interface identifier that holds the address.
        [.., 0 | 0x0200, 0x5efe, _, _] => vec![last],
        _ => Vec::new(),
    }
}

/// 64:ff9b:1::/48 (RFC 8215) is cut by its operator at 48, 56, 64 or 96 bits (RFC 6052, 2.2), which cannot be
/// seen from outside: in the usual /96 the four octets before the address are zero, else every reading counts
/// that a host can have.
fn nat64_local(b: &[u8; 16]) -> Vec<Ipv4Addr> {
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| b[place]));
    let last = at([12, 13, 14, 15]);
    if b[8..12] == [0; 4] {
        return vec![last];
    }
    let readings = [at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12]), last];
    let possible: Vec<Ipv4Addr> = readings.into_iter().filter(|v4| v4.octets()[0] != 0).collect();
    if possible.is_empty() { vec![last] } else { possible }
}

fn plain(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(v4) => plain_v4(v4),
        IpAddr::V6(v6) => plain_v6(v6),
    }
}

fn plain_v4(address: Ipv4Addr) -> AddressKind {
    match address.octets() {
        [0, ..] => AddressKind::Unspecified,
        // Azure, Alibaba, Oracle, and nearly everybody else.
        [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192] | [169, 254, 169, 254] => AddressKind::Metadata,
        [10, ..] | [192, 168, ..] => AddressKind::Private,
        [172, second, ..] if second & 0xf0 == 16 => AddressKind::Private,
        [100, second, ..] if second & 0xc0 == 64 => AddressKind::Shared,
        [127, ..] => AddressKind::Loopback,
        [169, 254, ..] => AddressKind::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => AddressKind::Documentation,
        [192, 0, 0, _] | [192, 88, 99, _] => AddressKind::Reserved,
        [198, 18 | 19, ..] => AddressKind::Benchmarking,
        [255, 255, 255, 255] => AddressKind::Broadcast,
        [first, ..] if first & 0xf0 == 224 => AddressKind::Multicast,
        [first, ..] if first & 0xf0 == 240 => AddressKind::Reserved,
        _ => AddressKind::Global,
    }
}

fn plain_v6(address: Ipv6Addr) -> AddressKind {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressKind::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressKind::Loopback,
        // AWS, Google, Scaleway.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254]
        | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42] => AddressKind::Metadata,
        [first, ..] if first & 0xffc0 == 0xfe80 => AddressKind::LinkLocal,
        [first, ..] if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 => AddressKind::Private,
        [first, ..] if first & 0xff00 == 0xff00 => AddressKind::Multicast,
        [0x2001, 0x0db8, ..] => AddressKind::Documentation,
        [0x3fff, second, ..] if second & 0xf000 == 0 => AddressKind::Documentation,
        [0x2001, 2, 0, ..] => AddressKind::Benchmarking,
        [0x2001, second, ..] if second & 0xfe00 == 0 => AddressKind::Reserved, // IETF protocol assignments, 2001::/23
        [first, ..] if first & 0xe000 == 0x2000 => AddressKind::Global,        // the only unicast space given out
        _ => AddressKind::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_kind() {
        let table: [(AddressKind, &[&str]); 12] = [
            (
                AddressKind::Global,
                &[
                    "1.1.1.1",
                    "9.255.255.255",
                    "11.0.0.0",
                    "100.63.255.255",
                    "100.128.0.0",
                    "126.255.255.255",
                    "128.0.0.0",
                    "169.253.255.255",
                    "169.255.0.0",
                    "172.15.255.255",
                    "172.32.0.0",
                    "192.0.1.0",
                    "192.88.98.255",
                    "192.167.255.255",
                    "192.169.0.0",
                    "198.17.255.255",
                    "198.20.0.0",
                    "223.255.255.255",
                    "2606:4700::1111",
                    "2001:4860:4860::8888",
                    "2a00::1",
                    "::ffff:8.8.8.8",
                    "64:ff9b::8.8.8.8",
                    "64:ff9b:1::8.8.8.8",
                    "64:ff9b:1:fffe::8.8.8.8",
                    "2002:808:808::1",
                ],
            ),
            (
                AddressKind::Private,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.1",
                    "fc00::1",
                    "fdff:ffff::1",
                    "fec0::1",
                    "feff::1",
                    "::ffff:10.1.2.3",
                    "::10.1.2.3",
                    "::ffff:0:10.1.2.3",
                    "64:ff9b::a01:203",
                    "64:ff9b:1::10.1.2.3",
                    "2002:a01:203::1",
                    "2606:4700::5efe:10.1.2.3",
                    "2606:4700::200:5efe:10.1.2.3",
                ],
            ),
            (AddressKind::Shared, &["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"]),
            (
                AddressKind::Documentation,
                &["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff::1", "3fff:fff::1"],
            ),
            (AddressKind::Benchmarking, &["198.18.0.0", "198.19.255.255", "2001:2::1"]),
            (AddressKind::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1", "ffff::1"]),
            (AddressKind::Broadcast, &["255.255.255.255", "::ffff:255.255.255.255"]),
            (
                AddressKind::Reserved,
                &[
                    "192.0.0.1",
                    "192.88.99.1",
                    "240.0.0.1",
                    "255.255.255.254",
                    "100::1",
                    "2001:20::1",
                    "2001:1::1",
                    "4000::1",
                    "5f00::1",
                    "64:ff9b:2::1",
                ],
            ),
            (
                AddressKind::Loopback,
                &[
                    "127.0.0.1",
                    "127.255.255.255",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::127.0.0.1",
                    "64:ff9b::7f00:1",
                    "64:ff9b:1::127.0.0.1",
                    "64:ff9b:1:7f00:0:100::", // cut at 48 bits
                    "64:ff9b:1:7f:0:1::",     // at 56
                    "64:ff9b:1:0:7f:0:100:0", // at 64
                    "2002:7f00:1::",
                    "2001:0:7f00:1::8.8.8.8",    // the Teredo server
                    "2001:0:808:808::80ff:fffe", // the Teredo client, flipped
                    "2606:4700::5efe:127.0.0.1",
                ],
            ),
            (
                AddressKind::LinkLocal,
                &["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "::ffff:169.254.1.1", "2002:a9fe:1::"],
            ),
            (
                AddressKind::Metadata,
                &[
                    "169.254.169.254",
                    "168.63.129.16",
                    "100.100.100.200",
                    "192.0.0.192",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "fd00:42::42",
                    "::ffff:169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "2002:a83f:8110::",
                ],
            ),
            (
                AddressKind::Unspecified,
                &["0.0.0.0", "0.1.2.3", "0.255.255.255", "::", "::ffff:0.0.0.0", "::0.1.2.3", "64:ff9b::", "2002::1"],
            ),
        ];
        for (kind, addresses) in table {
            for address in addresses {
                assert_eq!(AddressKind::of(address.parse().unwrap()), kind, "{address}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn an_ipv4_address_is_of_one_kind_in_every_ipv6_clothing(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let kind = AddressKind::of(v4.into());
            let (high, low) = ((bits >> 16) as u16, bits as u16);
            let clothed = [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ];
            for address in clothed {
                proptest::prop_assert_eq!(AddressKind::of(address.into()), kind, "{}", address);
            }
        }
    }
}
