//! Computes what the issuing certificate may sign for: DNS domains, each with its subdomains, and networks.
//!
//! The smallest set that names every configured host: a name constraint has no stars and no "exactly this
//! name" (RFC 5280, 4.2.1.10), so `quay.io` permits its subdomains too, and a star inside a name is refused.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::Error;
use crate::oci::{Host, HostPattern};

/// Domains in lower case and networks; none lies within another of the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permitted {
    domains: BTreeSet<String>,
    networks: BTreeSet<IpNet>,
}

impl Permitted {
    /// The domains and networks of `patterns`, whatever their ports.
    ///
    /// # Errors
    /// [`Error::InnerStar`] for a star elsewhere than as the whole first label, [`Error::TooWide`] for `*` and `*.com`.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a HostPattern>) -> Result<Self, Error> {
        let mut permitted = Self::default();
        for pattern in patterns {
            match (pattern.exact(), pattern.domain()) {
                (Some(host), _) => permitted.add(host),
                (None, _) if pattern.has_inner_star() => return Err(Error::InnerStar(pattern.to_string())),
                (None, Some(domain)) if domain.contains('.') => permitted.add_domain(domain),
                (None, _) => return Err(Error::TooWide(pattern.to_string())),
            }
        }
        Ok(permitted)
    }

    /// Adds `hosts`: the proxy's own names.
    #[must_use]
    pub fn and_hosts(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        hosts.into_iter().for_each(|host| self.add(&host));
        self
    }

    /// The domains, each of which includes its subdomains.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(String::as_str)
    }

    /// The networks; a single address is a network of one.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.networks.iter().copied()
    }

    /// Whether `host` is included.
    #[must_use]
    pub fn covers(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => self.domains.iter().any(|domain| within(name, domain)),
            Host::Address(address) => self.networks.iter().any(|network| network.contains(address)),
        }
    }

    fn add(&mut self, host: &Host) {
        match host {
            Host::Name(name) => self.add_domain(name.to_string()),
            Host::Address(address) => self.add_network(IpNet::from(*address)),
        }
    }

    fn add_domain(&mut self, domain: String) {
        if !self.domains.iter().any(|wider| within(&domain, wider)) {
            self.domains.retain(|narrower| !within(narrower, &domain));
            self.domains.insert(domain);
        }
    }

    fn add_network(&mut self, network: IpNet) {
        if !self.networks.iter().any(|wider| wider.contains(&network)) {
            self.networks.retain(|narrower| !network.contains(narrower));
            self.networks.insert(network);
        }
    }
}

/// Whether `name` is `domain` or a subdomain of it.
pub(super) fn within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|left| left.is_empty() || left.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str]) -> Result<Permitted, Error> {
        let patterns: Vec<HostPattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        Permitted::of(&patterns)
    }

    #[test]
    fn patterns_become_the_fewest_domains_and_networks() {
        let permitted =
            of(&["cdn.quay.io", "quay.io", "*.pkg.dev", "us.pkg.dev", "r.example.com:5000", "10.0.0.1", "[::1]:5000"])
                .unwrap();
        assert_eq!(permitted.domains().collect::<Vec<_>>(), ["pkg.dev", "quay.io", "r.example.com"]);
        let networks: Vec<String> = permitted.networks().map(|network| network.to_string()).collect();
        assert_eq!(networks, ["10.0.0.1/32", "::1/128"]);
    }

    #[test]
    fn own_names_are_added() {
        let permitted =
            of(&["quay.io"]).unwrap().and_hosts(["proxy1".parse().unwrap(), "cdn.quay.io".parse().unwrap()]);
        assert_eq!(permitted.domains().collect::<Vec<_>>(), ["proxy1", "quay.io"]);
    }

    #[test]
    fn what_no_constraint_can_say_is_refused_with_the_way_out() {
        for text in ["*.dkr.ecr.*.amazonaws.com", "cdn*.quay.io"] {
            assert!(matches!(of(&[text]), Err(Error::InnerStar(pattern)) if pattern == text), "{text}");
        }
        for text in ["*", "*.com"] {
            assert!(matches!(of(&[text]), Err(Error::TooWide(pattern)) if pattern == text), "{text}");
        }
        assert!(of(&["*.dkr.ecr.*.amazonaws.com"]).unwrap_err().to_string().contains("list the regions"));
    }

    #[test]
    fn a_domain_covers_itself_and_whole_labels_below() {
        let permitted = of(&["quay.io", "10.0.0.1"]).unwrap();
        let table = [
            ("quay.io", true),
            ("a.b.quay.io", true),
            ("evilquay.io", false),
            ("io", false),
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("::1", false),
        ];
        for (host, expected) in table {
            assert_eq!(permitted.covers(&host.parse().unwrap()), expected, "{host}");
        }
    }
}
