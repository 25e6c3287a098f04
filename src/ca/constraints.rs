//! Converts name constraints: from the permitted names to the extension, and back from a signed certificate.
//!
//! RFC 5280, 4.2.1.10: a form of name (DNS, IP) without a permitted subtree is unrestricted, and an excluded subtree
//! wins over a permitted one. So each form always gets one or the other. The two families of addresses are one form,
//! but clients differ: where only IPv4 is permitted, GnuTLS 3.7 passes any IPv6; where `::/0` is excluded too, Java 17
//! fails on every IPv4 address. All clients read it as meant if an address that no server can have is permitted in the
//! other family.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use x509_parser::extensions::{GeneralName, GeneralSubtree as Subtree, NameConstraints as Extension};

use super::permitted::{Permitted, within};
use crate::oci::Host;

/// The permitted domain if there is no other: it never names a host (RFC 6761, 6.4). By the RFC an excluded empty
/// domain has the same effect, but not for every client.
const NO_DOMAIN: &str = "none.invalid";

/// `0.0.0.0/0` and `::/0`.
const FAMILIES: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// For each family an address that cannot be connected to: broadcast, and a reserved multicast. The unspecified ones do
/// not qualify: they reach the machine itself, and Java treats `0.0.0.0/32` as a prefix of `::1`.
const NO_ADDRESS: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::MAX), 128)),
];

/// Permitted and excluded subtrees of the two forms that TLS servers have; other forms are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Constraints {
    domains: Subtrees<String>,
    networks: Subtrees<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Subtrees<T> {
    permitted: BTreeSet<T>,
    excluded: BTreeSet<T>,
}

impl<T> Default for Subtrees<T> {
    fn default() -> Self {
        Self { permitted: BTreeSet::new(), excluded: BTreeSet::new() }
    }
}

impl<T> Subtrees<T> {
    fn admit(&self, inside: impl Fn(&T) -> bool) -> bool {
        (self.permitted.is_empty() || self.permitted.iter().any(&inside)) && !self.excluded.iter().any(&inside)
    }
}

impl Subtrees<IpNet> {
    fn permit_within(&self, family: &IpNet) -> bool {
        self.permitted.iter().any(|network| family.contains(network))
    }
}

impl Constraints {
    /// The constraints that permit exactly these names.
    pub(super) fn from_permitted(permitted: &Permitted) -> Self {
        let mut constraints = Self::default();
        constraints.domains.permitted.extend(permitted.domains().map(str::to_owned));
        if constraints.domains.permitted.is_empty() {
            constraints.domains.permitted.insert(NO_DOMAIN.to_owned());
        }
        constraints.networks.permitted.extend(permitted.networks());
        let networks = &mut constraints.networks;
        if networks.permitted.is_empty() {
            networks.excluded.extend(FAMILIES);
        } else {
            let lacking = FAMILIES.iter().zip(NO_ADDRESS).filter(|(family, _)| !networks.permit_within(family));
            let stand_ins: Vec<IpNet> = lacking.map(|(_, address)| address).collect();
            networks.permitted.extend(stand_ins);
        }
        constraints
    }

    /// Reads a certificate's extension; `None` where a subtree of a name or network does not parse.
    pub(super) fn from_extension(extension: &Extension<'_>) -> Option<Self> {
        let mut constraints = Self::default();
        for subtree in extension.permitted_subtrees.iter().flatten() {
            constraints.domains.permitted.extend(domain(subtree)?);
            constraints.networks.permitted.extend(network(subtree)?);
        }
        for subtree in extension.excluded_subtrees.iter().flatten() {
            constraints.domains.excluded.extend(domain(subtree)?);
            constraints.networks.excluded.extend(network(subtree)?);
        }
        Some(constraints)
    }

    /// The extension, for signing.
    pub(super) fn to_extension(&self) -> rcgen::NameConstraints {
        let subtrees = |domains: &BTreeSet<String>, networks: &BTreeSet<IpNet>| {
            let domains = domains.iter().cloned().map(rcgen::GeneralSubtree::DnsName);
            let subnet = |net: &IpNet| rcgen::CidrSubnet::from_addr_prefix(net.network(), net.prefix_len());
            let networks = networks.iter().map(|net| rcgen::GeneralSubtree::IpAddress(subnet(net)));
            domains.chain(networks).collect()
        };
        rcgen::NameConstraints {
            permitted_subtrees: subtrees(&self.domains.permitted, &self.networks.permitted),
            excluded_subtrees: subtrees(&self.domains.excluded, &self.networks.excluded),
        }
    }

    /// Whether both forms of name are restricted.
    pub(super) fn is_bounded(&self) -> bool {
        let bounded = |family| self.networks.excluded.contains(family) || self.networks.permit_within(family);
        !self.domains.permitted.is_empty() && FAMILIES.iter().all(bounded)
    }

    /// Whether the constraints allow a leaf for `host`.
    pub(super) fn covers(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => self.domains.admit(|domain| within(name, domain)),
            Host::Address(address) => self.networks.admit(|network| network.contains(address)),
        }
    }

    /// The domains and networks of `permitted` that are not fully covered.
    pub(super) fn lacks(&self, permitted: &Permitted) -> Vec<String> {
        let domains = permitted.domains().filter(|wanted| !self.domains.admit(|domain| within(wanted, domain)));
        let networks = permitted.networks().filter(|wanted| !self.networks.admit(|network| network.contains(wanted)));
        domains.map(str::to_owned).chain(networks.map(|network| network.to_string())).collect()
    }

    /// Permitted domains, for people.
    pub(super) fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.permitted.iter().map(String::as_str).filter(|domain| *domain != NO_DOMAIN)
    }

    /// Permitted networks, for people.
    pub(super) fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.networks.permitted.iter().copied().filter(|network| !NO_ADDRESS.contains(network))
    }

    /// A covered host, for a trial of the chain.
    pub(super) fn example(&self) -> Option<Host> {
        let name = self.domains.permitted.iter().find_map(|domain| domain.parse().ok());
        name.or_else(|| self.networks.permitted.first().map(|network| Host::Address(network.addr())))
    }
}

/// `None` for a broken subtree, `Some(None)` for another form of name.
fn domain(subtree: &Subtree<'_>) -> Option<Option<String>> {
    match &subtree.base {
        GeneralName::DNSName(name) => Some(Some(name.to_ascii_lowercase())),
        GeneralName::Invalid(..) => None,
        _ => Some(None),
    }
}

fn network(subtree: &Subtree<'_>) -> Option<Option<IpNet>> {
    let GeneralName::IPAddress(bytes) = &subtree.base else { return Some(None) };
    let (address, mask) = bytes.split_at(bytes.len() / 2);
    let network = IpNet::with_netmask(ip(address)?, ip(mask)?).ok()?;
    Some(Some(network.trunc()))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(hosts: &[&str]) -> Permitted {
        Permitted::default().and_hosts(hosts.iter().map(|host| host.parse().unwrap()))
    }

    #[test]
    fn both_families_of_addresses_are_always_spoken_of() {
        let (v4, v6) = ("255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128");
        let table: [(&[&str], &[&str], &[&str]); 4] = [
            (&["quay.io"], &[], &["0.0.0.0/0", "::/0"]),
            (&["10.0.0.1"], &["10.0.0.1/32", v6], &[]),
            (&["::1"], &[v4, "::1/128"], &[]),
            (&["::1", "10.0.0.1"], &["10.0.0.1/32", "::1/128"], &[]),
        ];
        for (hosts, inside, outside) in table {
            let constraints = Constraints::from_permitted(&permitted(hosts));
            let text = |networks: &BTreeSet<IpNet>| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(text(&constraints.networks.permitted), inside, "{hosts:?}");
            assert_eq!(text(&constraints.networks.excluded), outside, "{hosts:?}");
            assert!(constraints.is_bounded());
            assert!(constraints.networks().all(|network| !NO_ADDRESS.contains(&network)), "{hosts:?}");
            for host in ["10.0.0.2", "::2"] {
                assert!(!constraints.covers(&host.parse().unwrap()), "{hosts:?} {host}");
            }
        }
    }

    #[test]
    fn without_domains_no_name_is_covered() {
        let constraints = Constraints::from_permitted(&permitted(&["10.0.0.1"]));
        assert!(constraints.covers(&"10.0.0.1".parse().unwrap()));
        for host in ["quay.io", "10.0.0.2", "::1", "com"] {
            assert!(!constraints.covers(&host.parse().unwrap()), "{host}");
        }
        assert_eq!(constraints.domains().count(), 0);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let constraints = Constraints::from_permitted(&permitted(&["quay.io", "10.0.0.1"]));
        let wanted = permitted(&["cdn.quay.io", "ghcr.io", "10.0.0.1", "10.0.0.2", "::1"]);
        assert_eq!(constraints.lacks(&wanted), ["ghcr.io", "10.0.0.2/32", "::1/128"]);
    }

    #[test]
    fn a_network_that_is_none_is_broken_and_not_ignored() {
        let subtree = |bytes| Subtree { base: GeneralName::IPAddress(bytes) };
        assert_eq!(network(&subtree(&[10, 0, 0, 0, 255, 0, 0, 0])), Some("10.0.0.0/8".parse().ok()));
        for bytes in [&[10, 0, 0, 0, 255, 0, 255, 0][..], &[10, 0, 0, 0], &[], &[1; 9]] {
            assert_eq!(network(&subtree(bytes)), None, "{bytes:?}");
        }
    }
}
