//! Judges a CONNECT: refused, tunnelled, or intercepted. Pure: no name is resolved here.
//!
//! Registries and their token services are intercepted by name alone; every other host is judged by the
//! tunnel's lists, and the addresses behind it once more when it is dialled.

use std::sync::Arc;

use super::config::{TunnelConfig, TunnelDefault};
use super::registry::Registry;
use crate::oci::{Authority, Host};
use crate::upstream::Target;

/// The proxy's answer to a CONNECT.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Answer 403, with the reason.
    Refuse(Refusal),
    /// Pass bytes on.
    Tunnel,
    /// Pass bytes on, though it is a registry: the CA cannot sign for it.
    Uncovered(Arc<Registry>),
    /// Take TLS off and answer.
    Intercept(Arc<Registry>),
}

/// Why a host may not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `tunnel.deny` names it.
    #[error("tunnel.deny names this host")]
    Denied,
    /// `tunnel.default` is `deny` and `tunnel.allow` does not name it.
    #[error("only registries and the hosts in tunnel.allow may be reached through this proxy")]
    Unlisted,
    /// The port is not one of `tunnel.ports`.
    #[error("this port is not in tunnel.ports")]
    Port,
    /// A registry's host, or its token service's, at another port than https.
    #[error("this host is a registry or its token service, which are reached by https at port 443 only")]
    Registry,
}

impl Verdict {
    /// The word for metrics and the access log.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refuse(_) => "refuse",
            Self::Tunnel => "tunnel",
            Self::Uncovered(_) => "uncovered",
            Self::Intercept(_) => "intercept",
        }
    }
}

/// Judges `authority`. `covers` says whether the CA can sign for a host.
pub(crate) fn judge(
    registries: &[Arc<Registry>],
    tunnel: &TunnelConfig,
    covers: impl Fn(&Host) -> bool,
    authority: &Authority,
) -> Verdict {
    let registry = registries
        .iter()
        .find(|registry| registry.is_at(authority))
        .or_else(|| registries.iter().find(|registry| registry.has_token_host(authority)));
    if let Some(registry) = registry {
        return if covers(&authority.host) {
            Verdict::Intercept(registry.clone())
        } else {
            Verdict::Uncovered(registry.clone())
        };
    }
    let refusal = judge_tunnel(tunnel, authority).or_else(|| {
        let is_allowed = tunnel.allow.iter().any(|target| names(target, authority));
        (!is_allowed && is_registry(registries, &authority.host, 443)).then_some(Refusal::Registry)
    });
    refusal.map_or(Verdict::Tunnel, Verdict::Refuse)
}

/// Whether a registry, or a token service of one, is `host` at `port`.
pub(crate) fn is_registry(registries: &[Arc<Registry>], host: &Host, port: u16) -> bool {
    let authority = Authority { host: host.clone(), port };
    registries.iter().any(|registry| registry.is_at(&authority) || registry.has_token_host(&authority))
}

fn judge_tunnel(tunnel: &TunnelConfig, authority: &Authority) -> Option<Refusal> {
    if tunnel.deny.iter().any(|target| names(target, authority)) {
        return Some(Refusal::Denied);
    }
    if tunnel.allow.iter().any(|target| names(target, authority)) {
        return None;
    }
    if !tunnel.ports.contains(&authority.port) {
        return Some(Refusal::Port);
    }
    (tunnel.default == TunnelDefault::Deny).then_some(Refusal::Unlisted)
}

/// Whether a list's entry names this host by what the client wrote. A target without a port means every port.
fn names(target: &Target, authority: &Authority) -> bool {
    match (target, &authority.host) {
        (Target::Host(pattern), _) => pattern.matches(authority, authority.port),
        (Target::Network(network), Host::Address(address)) => network.contains(&address.to_canonical()),
        (Target::Network(_), Host::Name(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::RegistrySettings;

    fn registry(host: &str, token: Option<&str>) -> Arc<Registry> {
        let settings = RegistrySettings {
            name: host.to_owned(),
            hosts: vec![host.parse().unwrap()],
            endpoints: Vec::new(),
            token_hosts: token.iter().map(|host| host.parse().unwrap()).collect(),
            named: false,
            realms: Vec::new(),
            auth: Default::default(),
            push: Push::Deny,
            prefetch: Prefetch::default(),
            tags: Default::default(),
            grants: Default::default(),
        };
        Arc::new(Registry::new(&settings).unwrap())
    }
    use crate::proxy::registry::config::{Prefetch, Push};

    fn verdict(tunnel: &TunnelConfig, authority: &str) -> String {
        let registries = [registry("registry-1.docker.io", Some("auth.docker.io")), registry("*.pkg.dev", None)];
        let covers = |host: &Host| host.to_string() != "new.pkg.dev";
        match judge(&registries, tunnel, covers, &Authority::parse(authority, 443).unwrap()) {
            Verdict::Refuse(reason) => format!("{reason:?}"),
            other => other.label().to_owned(),
        }
    }

    #[test]
    fn registries_are_intercepted_and_the_rest_is_tunnelled() {
        let tunnel = TunnelConfig { deny: vec!["*.evil.example".parse().unwrap()], ..TunnelConfig::default() };
        let table = [
            ("registry-1.docker.io:443", "intercept"),
            ("auth.docker.io:443", "intercept"),
            ("us-docker.pkg.dev:443", "intercept"),
            ("new.pkg.dev:443", "uncovered"),
            ("registry-1.docker.io:5000", "Port"),
            ("registry-1.docker.io:80", "Registry"),
            ("auth.docker.io:80", "Registry"),
            ("us-docker.pkg.dev:80", "Registry"),
            ("new.pkg.dev:80", "Registry"),
            ("example.com:443", "tunnel"),
            ("example.com:80", "tunnel"),
            ("example.com:25", "Port"),
            ("a.evil.example:443", "Denied"),
        ];
        for (authority, expected) in table {
            assert_eq!(verdict(&tunnel, authority), expected, "{authority}");
        }
    }

    #[test]
    fn with_default_deny_only_listed_hosts_are_reached() {
        let tunnel = TunnelConfig {
            default: TunnelDefault::Deny,
            allow: vec![
                "ok.example:8443".parse().unwrap(),
                "cdn.example".parse().unwrap(),
                "10.0.0.0/8".parse().unwrap(),
            ],
            deny: vec!["10.0.0.9".parse().unwrap()],
            ..TunnelConfig::default()
        };
        let table = [
            ("ok.example:8443", "tunnel"),
            ("ok.example:443", "Unlisted"),
            ("cdn.example:9000", "tunnel"),
            ("10.1.2.3:443", "tunnel"),
            ("10.0.0.9:443", "Denied"),
            ("other.example:443", "Unlisted"),
        ];
        for (authority, expected) in table {
            assert_eq!(verdict(&tunnel, authority), expected, "{authority}");
        }
    }
}
