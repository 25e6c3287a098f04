//! Holds the names of `mirror.names` and `mirror.default` as a table, checked against the configured registries.

use std::sync::Arc;

use super::config::{MirrorConfig, MirrorMembers};
use super::name::{MirrorName, MirrorTarget};
use crate::oci::{Authority, Host, Repository, RepositoryPattern};
use crate::proxy::registry::registry::Registry;

/// The registry whose names of one component lie below `library/`, and the meaning of a name without a registry.
pub(crate) const HUB: &str = "docker.io";

/// What names mean at the mirror. Empty: each request has to say its registry by `ns` or in its path.
#[derive(Clone, Debug, Default)]
pub struct MirrorNames {
    pub(super) default: Option<Arc<MirrorMeaning>>,
    /// Names with a host: those with the longest path first, then those for one port.
    pub(super) hosts: Vec<(MirrorName, Arc<MirrorMeaning>)>,
    /// Paths on every host: the longest first.
    pub(super) paths: Vec<(Repository, Arc<MirrorMeaning>)>,
    /// Each name as it is written, with the registry for which it stands if that is one as a whole.
    pub(crate) written: Vec<(String, Option<String>)>,
}

/// What one name stands for.
#[derive(Debug)]
pub(super) struct MirrorMeaning {
    /// The name itself, as the configuration writes it.
    pub(super) name: Arc<str>,
    /// In the order in which they are asked; at least one.
    pub(super) members: Vec<MeantRegistry>,
}

/// A registry, or a part of it.
#[derive(Clone, Debug)]
pub(super) struct MeantRegistry {
    pub(super) authority: Authority,
    pub(super) part: Option<Repository>,
    pub(super) repositories: Option<Vec<RepositoryPattern>>,
    /// Names of one component lie below `library/`.
    pub(super) is_hub: bool,
}

/// A name that means nothing; the configuration's check finds these first.
#[derive(Debug, thiserror::Error)]
pub enum UnknownMeaning {
    /// A key of `mirror.names`.
    #[error("mirror.names.{0} is not a name of a mirror")]
    Name(String),
    /// What a name stands for.
    #[error("{0} in mirror is not a configured registry")]
    Registry(String),
}

impl MirrorNames {
    /// Reads the section. Without a default, Docker Hub is it, if it is configured.
    ///
    /// # Errors
    /// [`UnknownMeaning`].
    pub fn new(config: &MirrorConfig, registries: &[Arc<Registry>]) -> Result<Self, UnknownMeaning> {
        let meaning = |name: &str, members: &MirrorMembers| meaning(name, members, registries).map(Arc::new);
        let has_hub = registries.iter().any(|registry| &**registry.name() == HUB);
        let hub = || has_hub.then(|| hub_alone(registries).map(Arc::new)).transpose();
        let default = match &config.default {
            Some(members) => Some(meaning("default", members)?),
            None => hub()?,
        };
        let mut names = Self { default, written: config.written_names(), ..Self::default() };
        for (key, members) in &config.names {
            let name: MirrorName = key.parse().map_err(|_| UnknownMeaning::Name(key.clone()))?;
            let meant = meaning(key, members)?;
            match (name.host.is_some(), name.path.clone()) {
                (false, Some(path)) => names.paths.push((path, meant)),
                _ => names.hosts.push((name, meant)),
            }
        }
        let length = |path: Option<&Repository>| std::cmp::Reverse(path.map_or(0, |path| path.as_str().len()));
        names.hosts.sort_by_key(|(name, _)| (length(name.path.as_ref()), name.port.is_none()));
        names.paths.sort_by_key(|(path, _)| length(Some(path)));
        Ok(names)
    }

    /// Whether a name has this host.
    pub(crate) fn has_host(&self, host: &Host) -> bool {
        self.hosts.iter().any(|(name, _)| name.host.as_ref() == Some(host))
    }
}

impl MirrorMeaning {
    /// Whether it stands for one registry, or a part of one.
    pub(super) fn is_alone(&self) -> bool {
        self.members.len() == 1
    }

    /// One registry as a whole.
    pub(super) fn of_registry(registry: &Registry, authority: Authority) -> Self {
        let member = MeantRegistry { authority, part: None, repositories: None, is_hub: &**registry.name() == HUB };
        Self { name: registry.name().clone(), members: vec![member] }
    }
}

fn hub_alone(registries: &[Arc<Registry>]) -> Result<MirrorMeaning, UnknownMeaning> {
    meaning("default", &MirrorMembers::of_registry(HUB), registries)
}

fn meaning(name: &str, members: &MirrorMembers, registries: &[Arc<Registry>]) -> Result<MirrorMeaning, UnknownMeaning> {
    let unknown = |text: &str| UnknownMeaning::Registry(text.to_owned());
    let member = |member: &super::config::MirrorMember| {
        let target: MirrorTarget = member.registry.parse().map_err(|_| unknown(&member.registry))?;
        let registry = at(registries, &target.authority).ok_or_else(|| unknown(&member.registry))?;
        let is_hub = &**registry.name() == HUB;
        let (authority, part) = (target.authority, target.part);
        Ok(MeantRegistry { authority, part, repositories: member.repositories.clone(), is_hub })
    };
    let members: Vec<MeantRegistry> = members.0.iter().map(member).collect::<Result<_, _>>()?;
    if members.is_empty() {
        return Err(UnknownMeaning::Name(name.to_owned()));
    }
    Ok(MirrorMeaning { name: name.into(), members })
}

/// The registry at `authority`. A token service is none.
pub(super) fn at<'a>(registries: &'a [Arc<Registry>], authority: &Authority) -> Option<&'a Arc<Registry>> {
    registries.iter().find(|registry| registry.is_at(authority))
}
