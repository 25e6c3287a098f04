//! From settings to the proxy's policy.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use crate::ca;
use crate::config::Settings;
use crate::proxy::{
    self, Audit, AuditError, BadRegistry, Clients, KeyError, LocalTokens, LoginError, Logins, Policy, Registry,
};
use crate::upstream::{self, AddressRules, NoTokenKey, Tokens, Upstream};

/// The file of that key, beside the store's own.
const LOCAL_TOKENS: &str = "tokens.key";

/// A part could not be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The CA.
    #[error("the certificate authority cannot be used")]
    Ca(#[from] ca::Error),
    /// The way to upstreams.
    #[error("upstreams cannot be set up")]
    Upstream(#[from] upstream::Error),
    /// The keys that compare secrets.
    #[error("a key cannot be made")]
    Random(#[from] NoTokenKey),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] BadRegistry),
    /// The key of our own tokens.
    #[error("no key can be made for tokens")]
    Tokens(#[from] KeyError),
    /// The users.
    #[error("clients.htpasswd cannot be used")]
    Logins(#[from] LoginError),
    /// The audit log.
    #[error("clients.audit cannot be used")]
    Audit(#[from] AuditError),
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
    let rules = AddressRules {
        allow: settings.tunnel.allow.clone(),
        deny: settings.tunnel.deny.clone(),
        named: named.collect(),
        own,
    };
    let upstream = Upstream::new(&settings.upstream, &endpoints, rules)?;
    let registries = settings.registries.iter().map(|registry| Registry::new(registry).map(Arc::new));
    Ok(Policy::new(
        registries.collect::<Result<_, _>>()?,
        settings.tunnel.clone(),
        &settings.clients,
        Tokens::new(upstream.clone())?,
        upstream,
        ca,
    ))
}

/// The key of our own tokens, in the cache folder. One that cannot be kept there is one for this run. Blocks.
pub(super) fn local_tokens(folder: &Path) -> Result<LocalTokens, Error> {
    let file = folder.join(LOCAL_TOKENS);
    LocalTokens::open(&file).or_else(|error| {
        let error: &dyn std::error::Error = &error;
        warn!(error, "tokens handed out while a registry is away will not outlive this process");
        Ok(LocalTokens::of_this_run()?)
    })
}

/// Users, rules and the audit log that `settings` mean. What did not change is taken over from `before`: open
/// files, and who was verified lately. Blocks on files.
pub(super) fn clients(settings: &Settings, before: Option<(&Settings, &Clients)>) -> Result<Clients, Error> {
    let (old, now) = (before.map(|(settings, _)| &settings.clients), &settings.clients);
    let kept = before.map(|(_, clients)| clients);
    let logins = match (&now.htpasswd, kept) {
        (Some(file), Some(kept)) if old.is_some_and(|old| old.htpasswd.as_ref() == Some(file)) => kept.logins.clone(),
        (Some(file), _) => Some(Logins::open(file.clone())?),
        (None, _) => None,
    };
    let audit = match (&now.audit, kept) {
        (Some(config), Some(kept)) if old.is_some_and(|old| old.audit.as_ref() == Some(config)) => {
            kept.audit.clone().inspect(Audit::reopen) // as log rotation expects of a SIGHUP
        }
        (Some(config), _) => Some(Audit::open(config)?),
        (None, _) => None,
    };
    Ok(Clients { logins, rules: proxy::Rules::new(&now.rules), audit })
}
