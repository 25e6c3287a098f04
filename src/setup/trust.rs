//! Lists the trust stores of the families of distributions, and the command that updates each.

/// The trust store of one family of distributions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustStore {
    /// The name of the family, for people.
    pub name: &'static str,
    /// The folder, below the root. A machine belongs to the first family whose folder exists.
    pub folder: &'static str,
    /// The command to run after a change.
    pub update: &'static str,
}

impl TrustStore {
    /// Our own file, below the root.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}/{FILE}", self.folder)
    }
}

/// The name of the file. Debian and Alpine read only names with this ending.
const FILE: &str = "pullthrough.crt";

/// All trust stores, in the order in which a machine is checked: other families may have the folder of Debian's too.
pub const TRUST_STORES: [TrustStore; 4] = [
    TrustStore { name: "RHEL, Fedora", folder: "/etc/pki/ca-trust/source/anchors", update: "update-ca-trust" },
    TrustStore { name: "Arch", folder: "/etc/ca-certificates/trust-source/anchors", update: "update-ca-trust" },
    TrustStore { name: "SUSE", folder: "/etc/pki/trust/anchors", update: "update-ca-certificates" },
    TrustStore {
        name: "Debian, Ubuntu, Alpine",
        folder: "/usr/local/share/ca-certificates",
        update: "update-ca-certificates",
    },
];
