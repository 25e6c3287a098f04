//! Replaces the configuration by a new one, or changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Why the last reload failed, if it did.
    pub(super) failed: Option<Failed>,
}

/// A reload that failed.
pub(super) struct Failed {
    why: String,
    tried: Instant,
}

/// How often a configuration that could not be read is tried again: a file that was missing may be back, and look as it
/// did before.
const RETRY: Duration = Duration::from_secs(5);

impl Current {
    /// Whether the last reload failed, and is to be tried again.
    pub(super) fn is_due(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.tried.elapsed() >= RETRY)
    }

    /// Notes that a reload failed. Each reason is logged once.
    fn fail(&mut self, why: String, metrics: &Metrics) {
        metrics.reload(false); // who reads the line finds the metric as it says
        if self.failed.as_ref().is_none_or(|failed| failed.why != why) {
            let seconds = RETRY.as_secs();
            error!(
                "the configuration was not reloaded; the old one stays in effect, and the new one is tried again every {seconds} s: {why}"
            );
        }
        self.failed = Some(Failed { why, tried: Instant::now() });
    }
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
            current.fail(mistakes.to_string().replace('\n', "; "), metrics);
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
            current.failed = None;
            metrics.reload(true);
            info!("the configuration was reloaded");
        }
        Err(error) => {
            current.fail(telemetry::chain(&error), metrics);
        }
    }
}

fn prepare(
    current: &Current,
    settings: &Settings,
    addresses: &Addresses,
    proxy: &Proxy,
) -> Result<(crate::proxy::Policy, Arc<ca::CertificateAuthority>), build::Error> {
    let same = settings.ca == current.settings.ca && settings.signed()? == current.settings.signed()?;
    let ca = if same { current.ca.clone() } else { build::authority(settings)? };
    let clients = build::clients(settings, Some((&current.settings, &proxy.policy().clients)))?;
    let policy = build::policy(settings, ca.clone(), addresses, &proxy.background)?.with(clients);
    Ok((policy, ca))
}

fn warn_of_sections_that_need_a_restart(old: &Settings, new: &Settings) {
    let keys = [
        ("listen", old.listen.addresses() != new.listen.addresses()),
        ("cache", old.cache != new.cache),
        ("fill", old.fill != new.fill),
        ("log.format", old.log.format != new.log.format),
    ];
    for (key, _) in keys.iter().filter(|(_, changed)| *changed) {
        warn!(key, "a change to this section takes effect after a restart");
    }
}
