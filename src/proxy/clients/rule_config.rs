//! Configures the rules and the audit log.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::oci::{HostPattern, RepositoryPattern};

/// One entry of `clients.rules`. It speaks of a request that fits all of its lists; a list that is absent fits
/// everything.
///
/// A request is refused if a `deny` rule speaks of it; and if some `allow` rule has its action, and none of
/// those speaks of it. Otherwise it is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Told to whom it refuses, and in the audit log.
    pub name: String,
    /// Whether what it speaks of is allowed or refused.
    pub effect: Effect,
    /// Users of `clients.htpasswd`; `*` is each of them. Default: everybody, named or not.
    #[serde(default)]
    pub users: Vec<String>,
    /// Networks that the client's address is in. Default: all.
    #[serde(default)]
    pub networks: Vec<IpNet>,
    /// Registries by their configured name, or patterns of hosts. Default: all.
    #[serde(default)]
    pub registries: Vec<HostPattern>,
    /// Repositories; a star stands for any characters, slashes included. Default: all, and requests that name
    /// none, such as the catalog: these are also refused by every `deny` that lists repositories.
    #[serde(default)]
    pub repositories: Vec<RepositoryPattern>,
    /// Pull, push, or both. Default: both. Deleting is pushing; lists of tags and referrers are pulls.
    #[serde(default = "both")]
    pub actions: Vec<Action>,
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// To read.
    Pull,
    /// To write or to delete.
    Push,
}

/// The effect of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Allows.
    Allow,
    /// Refuses; wins over every allow.
    Deny,
}

/// Where `clients.audit` goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditConfig {
    /// Standard error, between the lines of the log.
    Stderr,
    /// systemd's journal, as SYSLOG_IDENTIFIER=pullthrough-audit.
    Journald,
    /// A file: appended to, mode 0600, opened anew on SIGHUP.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for AuditConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(deserializer)?.as_str() {
            "stderr" => Self::Stderr,
            "journald" => Self::Journald,
            path => Self::File(path.into()),
        })
    }
}

fn both() -> Vec<Action> {
    vec![Action::Pull, Action::Push]
}
