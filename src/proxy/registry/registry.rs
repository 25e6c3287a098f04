//! Describes a registry as requests meet it: which hosts are it, where it is asked, and with whose credentials.

use std::sync::Arc;
use std::time::Duration;

use super::config::{Auth, Prefetch, Push, RegistrySettings};
use super::outages::Outages;
use crate::cache::{BadRule, Lives, TagPolicy};
use crate::host::TaskGroup;
use crate::oci::{Authority, HostPattern};
use crate::upstream::AskAs;
use crate::upstream::{BadEndpoint, CredentialError, Endpoint, Held, Keyring, Outage, Realm};

/// One registry of the configuration.
#[derive(Debug)]
pub struct Registry {
    name: Arc<str>,
    hosts: Vec<HostPattern>,
    token_hosts: Vec<Authority>,
    endpoints: Arc<[Endpoint]>,
    /// Those that may be asked what only the registry knows; all, where none may.
    deciding: Arc<[Endpoint]>,
    push: Push,
    prefetch: Prefetch,
    tags: TagPolicy,
    one: bool,
    outages: Outages,
    whose: Whose,
    realms: Vec<Realm>,
    /// Of the endpoints that have credentials of their own.
    keyrings: Vec<(Endpoint, Arc<Keyring>)>,
    lives: Lives,
}

/// Whose credentials go upstream.
#[derive(Clone, Debug)]
pub enum Whose {
    /// The client's own.
    Client,
    /// Nobody's.
    Nobody,
    /// The proxy's, for clients without any.
    Held(Arc<Keyring>),
}

/// A registry's settings that cannot be used; the configuration's check finds these first.
#[derive(Debug, thiserror::Error)]
pub enum BadRegistry {
    /// An endpoint's URL.
    #[error("the registry {0} has an endpoint that cannot be used")]
    Endpoint(String, #[source] BadEndpoint),
    /// A tag rule.
    #[error("the registry {0} has a tag rule that cannot be used")]
    Rule(String, #[source] BadRule),
    /// Held credentials.
    #[error("the credentials for the registry {0} cannot be used")]
    Credential(String, #[source] CredentialError),
}

impl Registry {
    /// Reads its settings.
    ///
    /// # Errors
    /// [`BadRegistry`].
    pub fn new(settings: &RegistrySettings) -> Result<Self, BadRegistry> {
        Self::among(&TaskGroup::new(), settings)
    }

    /// As [`Registry::new`]; what provides held credentials works among these tasks.
    ///
    /// # Errors
    /// As [`Registry::new`].
    pub fn among(tasks: &TaskGroup, settings: &RegistrySettings) -> Result<Self, BadRegistry> {
        let name = || settings.name.clone();
        let own = |endpoint: &Endpoint| settings.hosts.iter().any(|host| host.matches(endpoint.authority(), 443));
        let endpoint = |config| {
            let endpoint = Endpoint::parse(config).map_err(|cause| BadRegistry::Endpoint(name(), cause))?;
            let authoritative = endpoint.authoritative() || own(&endpoint);
            Ok(endpoint.with_authoritative(authoritative))
        };
        let endpoints: Vec<Endpoint> = settings.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
        let keyring = |held: &Held| {
            Keyring::among(tasks, held).map(Arc::new).map_err(|cause| BadRegistry::Credential(name(), cause))
        };
        let whose = match &settings.auth {
            Auth::Client => Whose::Client,
            Auth::Anonymous => Whose::Nobody,
            Auth::Held(held) => Whose::Held(keyring(held)?),
        };
        let mut keyrings = Vec::new();
        for (endpoint, config) in endpoints.iter().zip(&settings.endpoints) {
            if let Some(held) = &config.auth {
                keyrings.push((endpoint.clone(), keyring(held)?));
            }
        }
        Ok(Self {
            name: settings.name.as_str().into(),
            hosts: settings.hosts.clone(),
            token_hosts: settings.token_hosts.iter().map(|host| Authority { host: host.clone(), port: 443 }).collect(),
            deciding: deciding(&endpoints),
            endpoints: endpoints.into(),
            push: settings.push,
            prefetch: settings.prefetch,
            tags: TagPolicy::new(&settings.tags, Duration::ZERO).map_err(|cause| BadRegistry::Rule(name(), cause))?,
            one: settings.hosts.iter().all(|host| host.exact().is_some()),
            whose,
            realms: settings.realms.clone(),
            keyrings,
            lives: settings.grants.lives(),
            outages: Outages::default(),
        })
    }

    /// Its configured name: a metric label, and nothing that a client sent.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether `authority` is it.
    #[must_use]
    pub fn is_at(&self, authority: &Authority) -> bool {
        self.hosts.iter().any(|host| host.matches(authority, 443))
    }

    /// Whether `authority` is its token service.
    #[must_use]
    pub fn has_token_host(&self, authority: &Authority) -> bool {
        self.token_hosts.contains(authority)
    }

    /// The registry's name in the cache: aliases are one, while every host of a pattern is a registry of its
    /// own that must not answer for another.
    #[must_use]
    pub fn origin(&self, asked: &Authority) -> Arc<str> {
        if self.one { self.name.clone() } else { asked.short(443) }
    }

    /// Where it can be asked, in the configured order; by default the asked host itself.
    #[must_use]
    pub fn endpoints(&self, asked: &Authority) -> Arc<[Endpoint]> {
        if self.endpoints.is_empty() { Arc::new([Endpoint::of_host(asked)]) } else { self.endpoints.clone() }
    }

    /// The prefixes of repositories' names that are its own at `host`: none before names at its own hosts.
    pub(crate) fn prefixes_at<'a>(&'a self, host: &'a Authority) -> impl Iterator<Item = &'a str> {
        let mirrors = self.endpoints.iter().filter(move |endpoint| endpoint.authority() == host).map(Endpoint::prefix);
        self.is_at(host).then_some("").into_iter().chain(mirrors)
    }

    /// Those that may be asked what only the registry knows. Where none is, all are, without credentials.
    #[must_use]
    pub fn deciding_endpoints(&self, asked: &Authority) -> Arc<[Endpoint]> {
        if self.deciding.is_empty() { self.endpoints(asked) } else { self.deciding.clone() }
    }

    /// The unreachable hosts that `origin` needs, in words.
    pub(crate) fn outages(&self, origin: &str) -> Vec<String> {
        self.outages.words(origin)
    }

    /// Whether it is away, with all that belongs to it: each host of a pattern for itself, as in the cache.
    #[must_use]
    pub fn outage(&self, asked: &Authority) -> Outage {
        self.outages.of(&self.origin(asked), || {
            let homes = self.deciding_endpoints(asked);
            let all = self.endpoints(asked);
            let mirrors = all.iter().filter(|endpoint| !homes.contains(endpoint)).cloned().collect();
            Outage::new(homes.to_vec(), mirrors).named(&self.name)
        })
    }

    /// Whether it, or its token service, is unreachable: any of its hosts, where it is a pattern.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.outages.any(|_, outage| outage.is_open() || outage.is_home_missing())
    }

    /// The outages of what was away in `before`, which this registry replaces, and is not known to be back.
    pub(crate) fn outages_of(&self, before: &Self) -> Vec<Outage> {
        let taken_over = |(origin, earlier): (Arc<str>, Outage)| {
            let asked = if self.one { self.first_host() } else { Authority::parse(&origin, 443).ok() };
            asked.map(|asked| self.outage(&asked).after(&earlier))
        };
        before.outages.away().into_iter().filter_map(taken_over).collect()
    }

    /// A host that it has, unless it is a pattern alone.
    pub(crate) fn first_host(&self) -> Option<Authority> {
        let host = self.hosts.iter().find_map(HostPattern::exact).cloned();
        host.map(|host| Authority { host, port: 443 })
    }

    /// The metric labels of its endpoints, each with the word on whether it is up: `is_up` tells it of an endpoint with
    /// its outage. A pattern has one for all its hosts.
    pub(crate) fn endpoints_up(&self, is_up: impl Fn(&Endpoint, &Outage) -> bool) -> Vec<(String, bool)> {
        let is_down = |endpoint: &Endpoint, outage: &Outage| !is_up(endpoint, outage);
        if self.endpoints.is_empty() && !self.one {
            let is_any_down = self.outages.any(|origin, outage| {
                Authority::parse(origin, 443).is_ok_and(|host| is_down(&Endpoint::of_host(&host), outage))
            });
            return vec![(self.name.to_string(), !is_any_down)];
        }
        let endpoints = self.first_host().map_or_else(|| self.endpoints.clone(), |asked| self.endpoints(&asked));
        let is_any_down = |endpoint: &Endpoint| self.outages.any(|_, outage| is_down(endpoint, outage));
        endpoints.iter().map(|endpoint| (endpoint.name(), !is_any_down(endpoint))).collect()
    }

    /// An endpoint's name as a metric label: where the asked host is the endpoint of a pattern, a client chose
    /// it, so the registry's own name stands for it.
    #[must_use]
    pub fn label_of(&self, endpoint: &Endpoint) -> String {
        if self.endpoints.is_empty() && !self.one { self.name.to_string() } else { endpoint.name() }
    }

    /// Whose credentials go upstream.
    #[must_use]
    pub fn whose(&self) -> &Whose {
        &self.whose
    }

    /// Realms elsewhere that held credentials may be sent to.
    #[must_use]
    pub fn realms(&self) -> &[Realm] {
        &self.realms
    }

    /// How long what callers have proven is believed.
    #[must_use]
    pub fn lives(&self) -> Lives {
        self.lives
    }

    /// Whether tokens that `realm` issues are this registry's own, as `asked` takes them.
    #[must_use]
    pub fn is_served_by(&self, realm: &Authority, asked: &Authority) -> bool {
        self.has_token_host(realm) || if self.one { self.is_at(realm) } else { realm == asked }
    }

    /// In whose name `endpoint` is asked by one who asks the registry as `who`. A mirror never sees what is for
    /// the registry; its own credentials are used only where something else decides who may read.
    pub(crate) fn name_for(&self, endpoint: &Endpoint, who: &AskAs) -> AskAs {
        let own = self.keyrings.iter().find(|(one, _)| one == endpoint).map(|(_, keyring)| keyring.clone());
        match (own, who) {
            (Some(keyring), AskAs::Held { .. }) if endpoint.authoritative() => AskAs::Held { keyring, listed: false },
            (_, who) if endpoint.authoritative() => who.clone(),
            (Some(keyring), _) if self.endpoints.iter().any(Endpoint::authoritative) => {
                AskAs::Held { keyring, listed: false }
            }
            _ => AskAs::Nobody,
        }
    }

    /// Whether any endpoint whose word counts is reached over plain http.
    pub(crate) fn is_reached_in_the_clear(&self) -> bool {
        self.deciding.iter().any(|endpoint| !endpoint.is_secure())
    }

    /// Whether all its hosts are one registry, rather than a pattern's many.
    pub(crate) fn is_one(&self) -> bool {
        self.one
    }

    /// Whether pushes and deletes pass.
    #[must_use]
    pub fn push(&self) -> Push {
        self.push
    }

    /// How many of its blobs are fetched ahead at a time.
    #[must_use]
    pub fn prefetch(&self) -> usize {
        self.prefetch.0
    }

    /// How long its tags are believed.
    #[must_use]
    pub fn tags(&self) -> &TagPolicy {
        &self.tags
    }
}

/// Those of `all` that may be asked what only the registry knows; all, where none may.
fn deciding(all: &[Endpoint]) -> Arc<[Endpoint]> {
    let deciding: Arc<[Endpoint]> = all.iter().filter(|endpoint| endpoint.authoritative()).cloned().collect();
    if deciding.is_empty() { all.into() } else { deciding }
}
