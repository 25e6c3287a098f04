//! Resolves one request's host, `ns` and path to the registries that it may mean.
//!
//! Threat: a client has the proxy dial a host of its choice, or reads past rules under another spelling of a name.
//! Defence: only hosts of configured registries come out; the path is parsed by the one parser, as a whole and below the
//! name, and what is asked is printed from the result.

use std::sync::Arc;

use super::names::{MeantRegistry, MirrorMeaning, MirrorNames, at};
use crate::oci::{Authority, BadPath, BadQuery, Query, Repository, Route};
use crate::proxy::registry::registry::Registry;
use crate::proxy::tokens::local::LOCAL_TOKEN_PATH;

/// A request as its naming sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedName<'a> {
    /// The mirror's host, as the client named it.
    pub(crate) host: &'a Authority,
    /// The path, not decoded.
    pub(crate) path: &'a str,
    /// The query.
    pub(crate) query: &'a Query,
}

/// What a request means.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Whom to ask, in order; at least one.
    pub(crate) targets: Vec<MirrorTargetRoute>,
    /// The group's name, where several registries stand behind the name, whether or not several of them may be asked.
    pub(crate) group: Option<Arc<str>>,
    /// The repository as the client wrote it.
    pub(crate) written: Option<Arc<str>>,
    /// The `ns` parameter as the client wrote it.
    pub(crate) namespace: Option<Arc<str>>,
    /// A host of `mirror.names` stands for this registry, or a part of it, alone.
    pub(crate) is_host_of_one: bool,
}

/// One registry, and what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MirrorTargetRoute {
    /// Its own host.
    pub(crate) authority: Authority,
    /// With the registry's own repository.
    pub(crate) route: Route,
}

/// Why a request means nothing here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unnamed {
    /// The path could be read in two ways.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The query could.
    #[error(transparent)]
    Query(#[from] BadQuery),
    /// `ns` is no host.
    #[error("the parameter ns is not the host of a registry, such as docker.io")]
    Namespace,
    /// The host in `ns`, or before the repository, is no configured registry.
    #[error("{0} is not a registry of this mirror's configuration (registries)")]
    Registry(String),
    /// The connection's host is a registry's own.
    #[error(
        "{0} is a registry itself and not a name of this mirror: use this proxy in HTTPS_PROXY, or ask a name of the mirror"
    )]
    Host(Authority),
    /// Nothing behind the name has such a path.
    #[error("no registry behind this name may be asked for this path")]
    Nothing,
    /// There is no default.
    #[error(
        "the path names no registry, and mirror.default is not set; expected /v2/REGISTRY/REPOSITORY or ?ns=REGISTRY"
    )]
    NoDefault,
}

/// What is left of a route below a name.
enum Below {
    Route(Route),
    /// The name is the repository's whole name.
    Itself(Route),
}

impl MirrorNames {
    /// What a request means.
    ///
    /// # Errors
    /// [`Unnamed`]: nobody may be asked.
    pub(crate) fn resolve(&self, registries: &[Arc<Registry>], asked: AskedName<'_>) -> Result<Resolved, Unnamed> {
        let route = Route::parse(asked.path)?;
        let namespace: Option<Arc<str>> = asked.query.only("ns")?.map(Arc::from);
        let (meaning, below, is_host) = self.meant(registries, asked.host, namespace.as_deref(), &route)?;
        let alone = meaning.is_alone();
        let targets: Vec<_> = meaning.members.iter().filter_map(|member| member.asked(&below, alone)).collect();
        if targets.is_empty() {
            return Err(Unnamed::Nothing);
        }
        Ok(Resolved {
            targets,
            group: (!alone).then(|| meaning.name.clone()),
            written: written(&route),
            namespace,
            is_host_of_one: is_host && alone,
        })
    }

    /// The registries, each with its own name of the repository, that `repository` may mean to a client that names the
    /// mirror so: as a request there would be resolved.
    pub(crate) fn places(
        &self,
        registries: &[Arc<Registry>],
        host: &Authority,
        namespace: Option<&str>,
        repository: &str,
    ) -> Vec<(Authority, Repository)> {
        let query = namespace.map_or_else(Query::default, |namespace| Query::default().with("ns", namespace));
        let path = format!("/v2/{repository}/tags/list");
        let resolved = self.resolve(registries, AskedName { host, path: &path, query: &query });
        let targets = resolved.map(|resolved| resolved.targets).unwrap_or_default();
        targets.into_iter().filter_map(|target| Some((target.authority, target.route.repository()?.clone()))).collect()
    }

    /// In the contract's order.
    fn meant(
        &self,
        registries: &[Arc<Registry>],
        host: &Authority,
        namespace: Option<&str>,
        route: &Route,
    ) -> Result<(Arc<MirrorMeaning>, Below, bool), Unnamed> {
        if let Some(namespace) = namespace {
            let authority = Authority::parse(namespace, 443).map_err(|_| Unnamed::Namespace)?;
            let registry =
                at(registries, &authority).ok_or_else(|| Unnamed::Registry(authority.short(443).to_string()))?;
            let printed = route.to_string();
            let is_it = |first: &&str| Authority::parse(first, 443).as_ref() == Ok(&authority);
            let below = first_segment(&printed).filter(is_it).and_then(|first| below(route, first));
            let meaning = MirrorMeaning::of_registry(registry, authority);
            return Ok((Arc::new(meaning), below.unwrap_or_else(|| Below::Route(route.clone())), false));
        }
        for (name, meaning) in self.hosts.iter().filter(|(name, _)| name.host.as_ref() == Some(&host.host)) {
            if name.port.is_some_and(|port| port != host.port) {
                continue;
            }
            match &name.path {
                None => return Ok((meaning.clone(), Below::Route(route.clone()), true)),
                Some(path) => {
                    if let Some(below) = below(route, path.as_str()).filter(|below| meaning.has(below)) {
                        return Ok((meaning.clone(), below, false));
                    }
                }
            }
        }
        let by_tls = Authority { host: host.host.clone(), port: 443 };
        if at(registries, host).is_some() || host.port == 80 && at(registries, &by_tls).is_some() {
            return Err(Unnamed::Host(host.clone()));
        }
        if is_about_no_repository(route) {
            return Ok((self.any(registries)?, Below::Route(route.clone()), false));
        }
        let printed = route.to_string();
        let is_before_a_name = route.repository().is_none_or(|name| name.as_str().contains('/'));
        let first = first_segment(&printed).filter(|first| is_like_a_host(first));
        if let Some(first) = first
            && let Ok(authority) = Authority::parse(first, 443)
            && let Some(registry) = at(registries, &authority)
        {
            let below = below(route, first).ok_or(Unnamed::Nothing)?;
            return Ok((Arc::new(MirrorMeaning::of_registry(registry, authority)), below, false));
        }
        for (path, meaning) in &self.paths {
            if let Some(below) = below(route, path.as_str()).filter(|below| meaning.has(below)) {
                return Ok((meaning.clone(), below, false));
            }
        }
        let default = self.default.clone().ok_or(Unnamed::NoDefault)?;
        match first {
            // Docker Hub has no such names: it would be told the name of somebody's registry, and of what is there.
            Some(first)
                if is_before_a_name && default.members.iter().any(|member| member.is_hub && member.part.is_none()) =>
            {
                Err(Unnamed::Registry(first.to_owned()))
            }
            _ => Ok((default, Below::Route(route.clone()), false)),
        }
    }

    /// Whom to ask what is about the mirror as a whole: the default, or any registry.
    fn any(&self, registries: &[Arc<Registry>]) -> Result<Arc<MirrorMeaning>, Unnamed> {
        let of = |registry: &Arc<Registry>| Some(MirrorMeaning::of_registry(registry, registry.first_host()?));
        let first = || registries.iter().find_map(of).map(Arc::new);
        self.default.clone().or_else(first).ok_or(Unnamed::NoDefault)
    }
}

impl MirrorMeaning {
    /// Whether any member could be asked this. A name is no repository by itself, unless it stands for a part.
    fn has(&self, below: &Below) -> bool {
        matches!(below, Below::Route(_)) || self.members.iter().any(|member| member.part.is_some())
    }
}

impl MeantRegistry {
    /// What this member is asked; `None` where it may not be.
    fn asked(&self, below: &Below, alone: bool) -> Option<MirrorTargetRoute> {
        let name = match below {
            Below::Itself(_) => self.part.clone(),
            Below::Route(route) => match route.repository() {
                Some(name) => Some(self.own(name)?),
                None => None,
            },
        };
        let route = match (below, name) {
            (Below::Route(route) | Below::Itself(route), Some(name)) => {
                let may = |patterns: &Vec<_>| {
                    patterns.iter().any(|pattern: &crate::oci::RepositoryPattern| pattern.matches(&name))
                };
                if !self.repositories.as_ref().is_none_or(may) {
                    return None;
                }
                route.within(name)?
            }
            (Below::Itself(_), None) => return None,
            // What is neither a ping nor a token could be about anything in the registry.
            (Below::Route(route), None) => {
                let route = route.clone();
                let is_whole = alone && self.part.is_none() && self.repositories.is_none();
                (is_whole || is_about_no_repository(&route)).then_some(route)?
            }
        };
        Some(MirrorTargetRoute { authority: self.authority.clone(), route })
    }

    /// The registry's own name for what lies at `name` below this one.
    fn own(&self, name: &Repository) -> Option<Repository> {
        let name = match &self.part {
            Some(part) => format!("{part}/{name}").parse().ok()?,
            None => name.clone(),
        };
        if self.is_hub && !name.as_str().contains('/') { format!("library/{name}").parse().ok() } else { Some(name) }
    }
}

/// The repository in a request as the client wrote it, a registry's host with a port before it included.
fn written(route: &Route) -> Option<Arc<str>> {
    if let Some(name) = route.repository() {
        return Some(name.as_str().into());
    }
    let Route::Other(path) = route else { return None };
    let (first, rest) = path.as_str().strip_prefix("/v2/")?.split_once('/')?;
    let rest = Route::parse(&format!("/v2/{rest}")).ok()?;
    rest.repository().map(|name| format!("{first}/{name}").into())
}

fn is_about_no_repository(route: &Route) -> bool {
    match route {
        Route::Ping => true,
        Route::Other(path) => path.as_str() == LOCAL_TOKEN_PATH,
        _ => false,
    }
}

/// The first segment below `/v2/`.
fn first_segment(path: &str) -> Option<&str> {
    path.strip_prefix("/v2/")?.split('/').next().filter(|first| !first.is_empty())
}

/// As Docker tells a registry from the first component of a repository's name.
fn is_like_a_host(segment: &str) -> bool {
    segment.contains(['.', ':']) || segment == "localhost"
}

fn below(route: &Route, path: &str) -> Option<Below> {
    if let Some(name) = route.repository() {
        if name.as_str() == path {
            return Some(Below::Itself(route.clone()));
        }
        let rest = name.as_str().strip_prefix(path)?.strip_prefix('/')?;
        return route.within(rest.parse().ok()?).map(Below::Route);
    }
    let Route::Other(other) = route else { return None };
    match other.as_str().strip_prefix("/v2/")?.strip_prefix(path)? {
        rest if rest.is_empty() || rest.starts_with('/') => Route::parse(&format!("/v2{rest}")).ok().map(Below::Route),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
