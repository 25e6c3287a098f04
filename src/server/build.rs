//! Builds the proxy's policy from the settings.

use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::listen::Addresses;
use crate::ca;
use crate::config::Settings;
use crate::host::TaskGroup;
use crate::proxy::{
    self, Audit, AuditError, BadRegistry, Clients, Door, KeyError, LocalTokens, LoginError, Logins, Mirror,
    MirrorNames, Policy, Registry, UnknownMeaning,
};
use crate::upstream::{self, AddressRules, NoTokenKey, Tokens, Upstream};

/// The file that holds the key of our own tokens, in the cache directory.
const LOCAL_TOKENS: &str = "tokens.key";

/// A part that could not be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The CA.
    #[error("cannot use the certificate authority")]
    Ca(#[from] ca::Error),
    /// The connections to upstreams.
    #[error("cannot set up the connections to upstreams")]
    Upstream(#[from] upstream::Error),
    /// The keys for comparing secrets.
    #[error("cannot create a key")]
    Random(#[from] NoTokenKey),
    /// A name of the mirror.
    #[error(transparent)]
    Mirror(#[from] UnknownMeaning),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] BadRegistry),
    /// The key of our own tokens.
    #[error("cannot create a key for tokens")]
    Tokens(#[from] KeyError),
    /// The users.
    #[error("cannot use clients.htpasswd")]
    Logins(#[from] LoginError),
    /// The audit log.
    #[error("cannot use clients.audit")]
    Audit(#[from] AuditError),
}

/// Opens the CA for the hosts that the settings intercept and for the proxy's own names. Blocks on files.
pub(super) fn authority(settings: &Settings) -> Result<Arc<ca::CertificateAuthority>, Error> {
    let permitted = settings.signed()?;
    Ok(Arc::new(ca::CertificateAuthority::open(&settings.ca, &permitted)?))
}

/// Builds the policy for `settings`. This process listens on these addresses; what works in the background is among
/// `tasks`. Blocks on files.
pub(super) fn policy(
    settings: &Settings,
    ca: Arc<ca::CertificateAuthority>,
    addresses: &Addresses,
    tasks: &TaskGroup,
) -> Result<Policy, Error> {
    let endpoints: Vec<_> = settings.registries.iter().flat_map(|registry| registry.endpoints.clone()).collect();
    let named =
        settings.registries.iter().filter(|registry| registry.named).flat_map(|registry| registry.hosts.clone());
    let rules = AddressRules {
        allow: settings.tunnel.allow.clone(),
        deny: settings.tunnel.deny.clone(),
        named: named.collect(),
        own: addresses.all(),
    };
    let upstream = Upstream::among(tasks.clone(), &settings.upstream, &endpoints, rules)?;
    let registries = settings.registries.iter().map(|registry| Registry::among(tasks, registry).map(Arc::new));
    let registries: Vec<_> = registries.collect::<Result<_, _>>()?;
    let names = MirrorNames::new(&settings.mirror, &registries)?;
    let tls = settings.mirror.tls.as_ref().map(|tls| ca::operator_config(&tls.cert_file, &tls.key_file)).transpose()?;
    let policy = Policy::new(
        registries,
        settings.tunnel.clone(),
        &settings.clients,
        Tokens::new(upstream.clone())?,
        upstream,
        ca,
    )
    .behind(
        settings.listen.proxy_protocol.iter().map(|balancer| balancer.0).collect(),
        addresses.of(Door::Transparent),
    );
    let (unasked, catalog) = (settings.mirror_address(), settings.mirror.catalog);
    Ok(policy.mirroring(Mirror { names, tls, unasked, catalog }))
}

/// Opens the key of our own tokens in the cache directory. If that fails, the key lasts for this run only. Blocks.
pub(super) fn local_tokens(folder: &Path) -> Result<LocalTokens, Error> {
    let file = folder.join(LOCAL_TOKENS);
    LocalTokens::open(&file).or_else(|error| {
        let error: &dyn std::error::Error = &error;
        warn!(error, "tokens issued while a registry is unreachable will not survive a restart of this process");
        Ok(LocalTokens::of_this_run()?)
    })
}

/// Builds users, rules and the audit log for `settings`. Unchanged parts are taken over from `before`: open files, and
/// recently verified users. Blocks on files.
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
