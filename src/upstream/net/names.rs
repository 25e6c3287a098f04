//! The kinds of names, judged by themselves where a parent proxy resolves them.
//!
//! Threat: a name that leads to the parent's own machine, its network or its cloud. What a name resolves to there only
//! the parent can judge; what can be told from the name itself is judged here.

use std::fmt;

/// A kind of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// One that DNS may have.
    Public,
    /// One for the inside of a network: a single label, `*.local`, `*.internal`, `*.lan`, `*.home.arpa` and their like
    /// (RFC 6762, RFC 8375, the ICANN's resolution of 29 July 2024 on `.internal`).
    Inside,
    /// The machine itself: `localhost` and what is under it (RFC 6761, 6.3).
    Machine,
    /// A cloud's metadata service.
    Metadata,
}

const METADATA: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "instance-data.ec2.internal", "metadata.azure.internal"];
/// The names that systems have for it in their hosts files.
const MACHINE: [&str; 6] = [
    "localhost.localdomain",
    "localhost6",
    "localhost6.localdomain",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
];
const INSIDE: [&str; 14] = [
    "local",
    "localdomain",
    "localdomain6",
    "internal",
    "lan",
    "home.arpa",
    "intranet",
    "private",
    "corp",
    "home",
    "svc",
    "cluster",
    "consul",
    "invalid",
];

impl NameKind {
    /// The kind of a name in lower case, without a dot at its end.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let is_under =
            |parent: &str| name == parent || name.strip_suffix(parent).is_some_and(|head| head.ends_with('.'));
        let any = |list: &[&str]| list.iter().any(|parent| is_under(parent));
        // `metadata` and `instance-data` are what search domains make of the names above.
        if any(&METADATA) || matches!(name, "metadata" | "instance-data") {
            Self::Metadata
        } else if is_under("localhost") || MACHINE.contains(&name) {
            Self::Machine
        } else if any(&INSIDE) || !name.contains('.') {
            Self::Inside
        } else {
            Self::Public
        }
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public name",
            Self::Inside => "a name for the inside of a network",
            Self::Machine => "a name of the machine itself",
            Self::Metadata => "a cloud's metadata service",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_kind() {
        let table: [(NameKind, &[&str]); 4] = [
            (
                NameKind::Public,
                &["quay.io", "local.example.com", "localhost.example.com", "mylocal.net", "corp.example"],
            ),
            (
                NameKind::Inside,
                &[
                    "intranet",
                    "db.local",
                    "registry.internal",
                    "a.b.svc.cluster.local",
                    "nas.home.arpa",
                    "registry.default.svc",
                    "registry.service.consul",
                    "nas.localdomain",
                    "localdomain",
                    "ip6-allnodes",
                ],
            ),
            (
                NameKind::Machine,
                &["localhost", "a.localhost", "localhost.localdomain", "localhost6.localdomain6", "ip6-loopback"],
            ),
            (
                NameKind::Metadata,
                &["metadata.google.internal", "metadata", "a.metadata.goog", "instance-data.ec2.internal"],
            ),
        ];
        for (kind, names) in table {
            for name in names {
                assert_eq!(NameKind::of(name), kind, "{name}");
            }
        }
    }
}
