//! From settings to the proxy's policy.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::ca;
use crate::config::Settings;
use crate::proxy::{BadRegistry, Policy, Registry};
use crate::upstream::{self, Rules, Upstream};

/// A part could not be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The CA.
    #[error("the certificate authority cannot be used")]
    Ca(#[from] ca::Error),
    /// The way to upstreams.
    #[error("upstreams cannot be set up")]
    Upstream(#[from] upstream::Error),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] BadRegistry),
}

/// Opens the CA for what the settings intercept, and for the proxy's own names. Blocks on files.
pub(super) fn authority(settings: &Settings) -> Result<Arc<ca::Authority>, Error> {
    let permitted = settings.permitted()?.and_hosts(settings.own_names());
    Ok(Arc::new(ca::Authority::open(&settings.ca, &permitted)?))
}

/// The policy that `settings` mean. `own` are the addresses that this process listens on. Blocks on files.
pub(super) fn policy(settings: &Settings, ca: Arc<ca::Authority>, own: Vec<SocketAddr>) -> Result<Policy, Error> {
    let endpoints: Vec<_> = settings.registries.iter().flat_map(|registry| registry.endpoints.clone()).collect();
    let named =
        settings.registries.iter().filter(|registry| registry.named).flat_map(|registry| registry.hosts.clone());
    let rules =
        Rules { allow: settings.tunnel.allow.clone(), deny: settings.tunnel.deny.clone(), named: named.collect(), own };
    let upstream = Upstream::new(&settings.upstream, &endpoints, rules)?;
    let registries = settings.registries.iter().map(|registry| Registry::new(registry).map(Arc::new));
    Ok(Policy::new(
        registries.collect::<Result<_, _>>()?,
        settings.tunnel.clone(),
        settings.clients.allow.clone(),
        upstream,
        ca,
    ))
}
