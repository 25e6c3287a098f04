//! Replaces the configuration by a new one, or changes nothing.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::build;
use super::listen::Addresses;
use crate::ca;
use crate::config::{self, ConfigSources, Settings};
use crate::proxy::Proxy;
use crate::telemetry::{self, Metrics};

/// The state that a reload compares with and replaces.
pub(super) struct Current {
    pub(super) settings: Settings,
    pub(super) ca: Arc<ca::CertificateAuthority>,
}

/// Reads the configuration again and puts it into effect. Blocks on files.
pub(super) fn reload(
    current: &mut Current,
    sources: &ConfigSources,
    addresses: &Addresses,
    proxy: &Proxy,
    metrics: &Metrics,
) {
    let settings = match config::reload(sources, &current.settings) {
        Ok(settings) => settings,
        Err(mistakes) => {
            let mistakes = mistakes.to_string().replace('\n', "; ");
            error!("the configuration was not reloaded; the old one stays in effect: {mistakes}");
            metrics.reload(false);
            return;
        }
    };
    match prepare(current, &settings, addresses, proxy) {
        Ok((policy, ca)) => {
            warn_of_sections_that_need_a_restart(&current.settings, &settings);
            for notice in settings.notices.iter().filter(|notice| !current.settings.notices.contains(notice)) {
                warn!("{notice}");
            }
            if !Arc::ptr_eq(&ca, &current.ca) {
                metrics.ca(ca.expiry());
                current.ca = ca;
            }
            let old = std::mem::replace(&mut current.settings, settings);
            let upstreams_changed =
                old.registries != current.settings.registries || old.upstream != current.settings.upstream;
            proxy.adopt(policy, upstreams_changed);
            telemetry::adopt(&current.settings.log);
            metrics.reload(true);
            info!("the configuration was reloaded");
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            error!(error, "the configuration was not reloaded; the old one stays in effect");
            metrics.reload(false);
        }
    }
}

fn prepare(
    current: &Current,
    settings: &Settings,
    addresses: &Addresses,
    proxy: &Proxy,
) -> Result<(crate::proxy::Policy, Arc<ca::CertificateAuthority>), build::Error> {
    let same = settings.ca == current.settings.ca
        && settings.permitted()? == current.settings.permitted()?
        && settings.own_names() == current.settings.own_names()
        && settings.mirror_hosts() == current.settings.mirror_hosts();
    let ca = if same { current.ca.clone() } else { build::authority(settings)? };
    let clients = build::clients(settings, Some((&current.settings, &proxy.policy().clients)))?;
    let policy = build::policy(settings, ca.clone(), addresses.all())?.with(clients);
    Ok((policy, ca))
}

fn warn_of_sections_that_need_a_restart(old: &Settings, new: &Settings) {
    let keys = [
        ("listen", old.listen != new.listen),
        ("cache", old.cache != new.cache),
        ("fill", old.fill != new.fill),
        ("log.format", old.log.format != new.log.format),
    ];
    for (key, _) in keys.iter().filter(|(_, changed)| *changed) {
        warn!(key, "a change to this section takes effect after a restart");
    }
}
