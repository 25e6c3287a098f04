//! All parents, and the hosts that are not reached through them.

use super::config::{HopConfig, ProxyConfig};
use super::peer::Parent;
use crate::oci::{Authority, Host};
use crate::upstream::net::address::{AddressKind, Needs};
use crate::upstream::net::names::NameKind;
use crate::upstream::net::tls::Roots;
use crate::upstream::{Error, Target};

/// `upstream.proxy` and `upstream.no_proxy`, ready for use.
pub(crate) struct Parents {
    hops: Vec<Hop>,
    exempt: Vec<Target>,
}

/// One way to go on.
pub(crate) enum Hop {
    /// To the host itself.
    Direct,
    /// Through this proxy.
    Parent(Box<Parent>),
}

impl Parents {
    /// Reads the files that the entries name.
    pub(crate) fn new(config: &ProxyConfig, exempt: &[Target], roots: &Roots) -> Result<Self, Error> {
        let hop = |config: &HopConfig| match config {
            HopConfig::Direct => Ok(Hop::Direct),
            HopConfig::Parent(parent) => Parent::new(parent, roots).map(|parent| Hop::Parent(Box::new(parent))),
        };
        Ok(Self { hops: config.0.iter().map(hop).collect::<Result<_, _>>()?, exempt: exempt.to_vec() })
    }

    /// The hops as configured.
    pub(crate) fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Whether there is any parent.
    pub(crate) fn is_any(&self) -> bool {
        self.hops.iter().any(|hop| matches!(hop, Hop::Parent(_)))
    }

    /// Whether `to` is for them. What is this machine's own is not, whatever `no_proxy` says: asked of a parent, it
    /// would be the parent's own.
    pub(crate) fn take(&self, to: &Authority) -> bool {
        self.is_any() && !is_own(&to.host) && !self.exempt.iter().any(|target| names(target, to))
    }
}

fn is_own(host: &Host) -> bool {
    match host {
        Host::Address(address) => AddressKind::of(*address).needs() >= Needs::VeryAddress,
        Host::Name(name) => matches!(NameKind::of(name), NameKind::Machine | NameKind::Metadata),
    }
}

/// Whether an entry of `no_proxy` names the host as it is written: a name is not resolved to find out.
fn names(target: &Target, to: &Authority) -> bool {
    match (target, &to.host) {
        (Target::Host(pattern), _) => pattern.matches(to, to.port),
        (Target::Network(network), Host::Address(address)) => network.contains(&address.to_canonical()),
        (Target::Network(_), Host::Name(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_hosts_are_not_for_a_parent() {
        let config: ProxyConfig = serde_yaml::from_str("http://parent:3128").unwrap();
        let exempt: Vec<Target> = ["quay.io", "*.inside.example", "10.0.0.0/8", "r.example:5000"]
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let parents = Parents::new(&config, &exempt, &Roots::none()).unwrap();
        let table = [
            ("ghcr.io", true),
            ("quay.io", false),
            ("cdn.quay.io", true),
            ("a.inside.example:8443", false),
            ("r.example:5000", false),
            ("r.example", true),
            ("10.1.2.3", false),
            ("192.168.1.1", true),
            ("127.0.0.1", false),
            ("[::1]", false),
            ("169.254.169.254", false),
            ("localhost", false),
            ("metadata.google.internal", false),
            ("db.local", true), // judged by its name, and then the parent's to find
        ];
        for (host, taken) in table {
            assert_eq!(parents.take(&Authority::parse(host, 443).unwrap()), taken, "{host}");
        }
        let none = Parents::new(&serde_yaml::from_str("direct").unwrap(), &[], &Roots::none()).unwrap();
        assert!(!none.take(&Authority::parse("ghcr.io", 443).unwrap()));
    }
}
