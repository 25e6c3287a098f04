//! Where each family of distributions keeps the certificates that its users add, and what makes them count.

/// One family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustStore {
    /// Its name, for people.
    pub name: &'static str,
    /// The folder, below the root. A machine is of the first family whose folder it has.
    pub folder: &'static str,
    /// What is run after a change.
    pub update: &'static str,
}

impl TrustStore {
    /// The file that is ours, below the root.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}/{FILE}", self.folder)
    }
}

/// The file's name everywhere. Debian and Alpine read only names that end so.
const FILE: &str = "pullthrough.crt";

/// In the order in which a machine is looked at: the folder of Debian's family is one that others may have too.
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
