//! Holds what the configuration says now: swapped as a whole on reload, read anew by every request.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use rustls::ServerConfig;

use super::clients::Clients;
use super::clients::config::ClientsConfig;
use super::limit::Limits;
use super::naming::names::MirrorNames;
use super::registry::config::TunnelConfig;
use super::registry::registry::Registry;
use super::registry::verdict::{Verdict, is_registry, judge};
use crate::ca;
use crate::oci::{Authority, Host};
use crate::upstream::Authenticated;
use crate::upstream::{Tokens, Upstream};

/// One configuration, ready for use.
pub struct Policy {
    /// The registries.
    pub registries: Vec<Arc<Registry>>,
    /// Which other hosts may be reached.
    pub tunnel: TunnelConfig,
    /// The networks that may use the proxy.
    pub networks: Vec<IpNet>,
    /// The balancers whose connections begin with a header of the PROXY protocol.
    pub balancers: Vec<IpNet>,
    /// The port of the transparent listener, if there is one.
    pub transparent: Option<u16>,
    /// How much may be in progress.
    pub limits: Limits,
    /// The way to upstreams.
    pub upstream: Upstream,
    /// In whose name registries are asked.
    pub authenticated: Authenticated,
    /// The CA that signs for intercepted hosts.
    pub ca: Arc<ca::CertificateAuthority>,
    /// Users, rules and the audit log.
    pub clients: Clients,
    /// What names mean at the mirror.
    pub mirror: Mirror,
    /// Leaves minted by CAs that this policy's has replaced.
    leaves_before: u64,
    warned: Mutex<HashSet<Authority>>,
}

/// The `mirror:` section, ready for use.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// What names mean.
    pub names: MirrorNames,
    /// The operator's certificate; `None` for leaves of the CA.
    pub tls: Option<Arc<ServerConfig>>,
    /// The name that a client means which asks for none, as one does that connects to an address.
    pub unasked: Option<Host>,
}

impl Policy {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        registries: Vec<Arc<Registry>>,
        tunnel: TunnelConfig,
        clients: &ClientsConfig,
        tokens: Tokens,
        upstream: Upstream,
        ca: Arc<ca::CertificateAuthority>,
    ) -> Self {
        Self {
            registries,
            tunnel,
            networks: clients.allow.clone(),
            balancers: Vec::new(),
            transparent: None,
            limits: clients.limits(),
            authenticated: Authenticated::new(tokens),
            upstream,
            ca,
            clients: Clients::default(),
            mirror: Mirror::default(),
            leaves_before: 0,
            warned: Mutex::default(),
        }
    }

    /// Adds users, rules and an audit log.
    #[must_use]
    pub fn with(self, clients: Clients) -> Self {
        Self { clients, ..self }
    }

    /// Adds the balancers in front of it, and where the transparent listener is.
    #[must_use]
    pub fn behind(self, balancers: Vec<IpNet>, transparent: Option<SocketAddr>) -> Self {
        Self { balancers, transparent: transparent.map(|address| address.port()), ..self }
    }

    /// Adds the names of the mirror, and its certificate.
    #[must_use]
    pub fn mirroring(self, mirror: Mirror) -> Self {
        Self { mirror, ..self }
    }

    /// Takes the place of `before` and continues its counts.
    pub(crate) fn after(mut self, before: &Self) -> Self {
        self.authenticated = self.authenticated.after(&before.authenticated, &self.upstream);
        let replaced = !Arc::ptr_eq(&self.ca, &before.ca);
        // A registry that was away is probed again by the new configuration, so that nobody has to meet that anew.
        for (registry, earlier) in self.registries.iter().flat_map(|registry| {
            before
                .registries
                .iter()
                .filter(|earlier| earlier.name() == registry.name())
                .map(move |earlier| (registry, earlier))
        }) {
            registry.outages_of(earlier).iter().for_each(|outage| self.upstream.doubt(outage));
        }
        self.leaves_before = if replaced { before.leaves_minted() } else { before.leaves_before };
        self
    }

    /// Leaves minted since the start.
    #[must_use]
    pub fn leaves_minted(&self) -> u64 {
        self.leaves_before + self.ca.leaves_minted()
    }

    /// Whether `client` may use the proxy. IPv4 mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.networks.iter().any(|network| network.contains(&client))
    }

    /// Whether a peer at this address tells by the PROXY protocol whom it speaks for.
    #[must_use]
    pub fn is_balancer(&self, peer: IpAddr) -> bool {
        self.balancers.iter().any(|network| network.contains(&peer))
    }

    /// Judges a CONNECT to `authority`. Warns once of a registry that the CA does not cover.
    #[must_use]
    pub fn judge(&self, authority: &Authority) -> Verdict {
        let verdict = judge(&self.registries, &self.tunnel, |host| self.ca.covers(host), authority);
        if let Verdict::Uncovered(registry) = &verdict
            && self.is_news(authority)
        {
            tracing::warn!(
                %authority, registry = %registry.name(),
                "the sealed CA does not cover this registry; it is tunnelled and not cached. Put ca.key back for one start, or remove the registry"
            );
        }
        verdict
    }

    /// Whether a registry, or a token service of one, is `host` at `port`.
    pub(crate) fn is_registry(&self, host: &Host, port: u16) -> bool {
        is_registry(&self.registries, host, port)
    }

    /// Bounded, as clients choose the hosts under a pattern.
    fn is_news(&self, authority: &Authority) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.len() < 1000 && warned.insert(authority.clone())
    }

    /// Whether `authority` is a token service that `registry` has in common with others, or that serves the many
    /// registries of a pattern.
    pub(crate) fn shares(&self, registry: &Registry, authority: &Authority) -> bool {
        let users = self.registries.iter().filter(|other| other.has_token_host(authority)).count();
        !registry.is_at(authority) && (users > 1 || !registry.is_one())
    }

    /// The registry that `authority` is or belongs to as a token service.
    #[must_use]
    pub fn registry(&self, authority: &Authority) -> Option<Arc<Registry>> {
        match self.judge(authority) {
            Verdict::Intercept(registry) | Verdict::Uncovered(registry) => Some(registry),
            Verdict::Refuse(_) | Verdict::Tunnel => None,
        }
    }
}
