//! Defines a checked configuration, and the names that the CA has to sign for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use super::mistakes::mistake::{Mistake, Mistakes, ValueSource};
use super::source::ConfigSources;
use crate::ca::{Overview, Permitted};
use crate::cache::FillConfig;
use crate::host::Period;
use crate::oci::{Host, HostPattern};
use crate::proxy::{ClientsConfig, ListenConfig, MirrorConfig, MirrorName, RegistrySettings, TunnelConfig};
use crate::upstream::HopConfig;
use crate::{ca, host, store, telemetry, upstream};

/// A checked configuration, with presets and defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file it was read from, if there was one.
    pub file: Option<PathBuf>,
    /// Notices for a person about settings that are valid.
    pub notices: Vec<String>,
    /// The listeners.
    pub listen: ListenConfig,
    /// What names mean at the mirror.
    pub mirror: MirrorConfig,
    /// The certificate authority.
    pub ca: ca::Config,
    /// The cache's folder and size.
    pub cache: store::Config,
    /// How blobs are downloaded into the cache.
    pub fill: FillConfig,
    /// The registries; the first one with a matching host applies.
    pub registries: Vec<RegistrySettings>,
    /// Which clients may use the proxy, and how.
    pub clients: ClientsConfig,
    /// How upstreams are reached.
    pub upstream: upstream::Config,
    /// Hosts that are not registries.
    pub tunnel: TunnelConfig,
    /// The log.
    pub log: telemetry::Config,
    /// How long SIGTERM lets transfers go on. Default: [`DRAIN`].
    pub drain: Period,
}

/// The default of `drain:`. The systemd unit and the examples for containers wait longer than this before they kill.
pub const DRAIN: Period = Period::seconds(300);

impl Settings {
    /// The hosts that are intercepted: registries and their token services.
    ///
    /// # Errors
    /// None for loaded settings, whose patterns were checked.
    pub fn permitted(&self) -> Result<Permitted, ca::Error> {
        let token_hosts = self.registries.iter().flat_map(|registry| &registry.token_hosts).cloned();
        let hosts: Vec<&HostPattern> = self.registries.iter().flat_map(|registry| &registry.hosts).collect();
        Ok(Permitted::of(hosts)?.and_hosts(token_hosts))
    }

    /// What the CA signs for: the hosts that are intercepted, the proxy's own names, and the mirror's.
    ///
    /// # Errors
    /// As [`Settings::permitted`].
    pub fn signed(&self) -> Result<Permitted, ca::Error> {
        Ok(self.permitted()?.and_hosts(self.own_names()).and_hosts(self.mirror_hosts()))
    }

    /// The files whose change triggers a reload: the configuration, or the paths where one would be found, and the
    /// certificates that it names. Password files are read again where they are used.
    #[must_use]
    pub fn files(&self, sources: &ConfigSources) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = sources.config.iter().cloned().collect();
        if files.is_empty() {
            files.clone_from(&sources.defaults);
        }
        for endpoint in self.registries.iter().flat_map(|registry| &registry.endpoints) {
            files.extend(
                [&endpoint.ca_file, &endpoint.client_cert_file, &endpoint.client_key_file]
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
        }
        for host in self.upstream.hosts.values() {
            files.extend([&host.ca_file, &host.client_cert_file, &host.client_key_file].into_iter().flatten().cloned());
        }
        files.extend(self.mirror.tls.iter().flat_map(|tls| [tls.cert_file.clone(), tls.key_file.clone()]));
        files.extend(self.upstream.proxy.0.iter().filter_map(|hop| match hop {
            HopConfig::Parent(parent) => parent.ca_file.clone(),
            HopConfig::Direct => None,
        }));
        files
    }

    /// The names of the proxy itself: the machine's name, `localhost`, and the addresses of its listeners. Where the mirror listens
    /// on every address, those are the machine's, since clients name a mirror by its address.
    #[must_use]
    pub fn own_names(&self) -> Vec<Host> {
        let names = [host::hostname(), Some("localhost".to_owned())];
        let listeners = [Some(self.listen.proxy), self.listen.mirror].into_iter().flatten();
        let addresses = listeners.map(|listener| listener.ip()).filter(|address| !address.is_unspecified());
        let is_everywhere = |mirror: &SocketAddr| mirror.ip().is_unspecified() && self.mirror.tls.is_none();
        let mut reached = if self.listen.mirror.is_some_and(|mirror| is_everywhere(&mirror)) {
            host::own_addresses()
        } else {
            Vec::new()
        };
        reached.retain(|address| address.is_ipv4() || self.listen.mirror.is_some_and(|mirror| mirror.is_ipv6()));
        let addresses = addresses.chain(reached);
        let names = names.into_iter().flatten().filter_map(|name| name.parse().ok());
        names.chain(addresses.map(Host::Address)).collect()
    }

    /// The address by which clients reach the mirror, if there is one alone: the listener's, or one in `mirror.names`.
    #[must_use]
    pub fn mirror_address(&self) -> Option<Host> {
        let listener = self.listen.mirror.map(|mirror| mirror.ip()).filter(|address| !address.is_unspecified());
        let names = self.mirror_hosts().into_iter().filter(|host| matches!(host, Host::Address(_)));
        let all: BTreeSet<Host> = listener.map(Host::Address).into_iter().chain(names).collect();
        let is_one = all.len() == 1;
        all.into_iter().next().filter(|_| is_one)
    }

    /// The hosts in `mirror.names`, for which the CA signs unless the mirror has a certificate of the operator's.
    #[must_use]
    pub fn mirror_hosts(&self) -> Vec<Host> {
        let names = self.mirror.names.keys().filter(|_| self.mirror.tls.is_none());
        names.filter_map(|name| name.parse::<MirrorName>().ok()?.host).collect()
    }
}

/// Reports the intercepted domains that a sealed CA does not cover. A CA that is not sealed covers all of them, at the
/// latest after the next start. Names of the proxy itself are not reported: those of a container change with each start.
///
/// # Errors
/// An error of reading the CA's folder.
pub fn check_sealed(settings: &Settings) -> Result<Option<Mistakes>, ca::Error> {
    let sealed = Overview::read(&settings.ca.dir)?.filter(|overview| overview.sealed);
    let Some(issuing) = sealed.and_then(|overview| overview.issuing) else { return Ok(None) };
    let mistake = |domain: String| Mistake {
        place: settings.file.clone().map_or(ValueSource::Defaults, |file| ValueSource::File(file, None)),
        key: "registries".to_owned(),
        text: format!(
            "the sealed CA in {} does not cover {domain}; expected ca.key back in that directory for one start, or the \
             registry removed from the configuration (until then it is tunnelled and not cached)",
            settings.ca.dir.display()
        ),
    };
    let of_mirror = |domain: String| Mistake {
        place: settings.file.clone().map_or(ValueSource::Defaults, |file| ValueSource::File(file, None)),
        key: "mirror.names".to_owned(),
        text: format!(
            "the sealed CA in {} does not cover {domain}; expected ca.key back in that directory for one start, or a \
             certificate for it in mirror.tls (until then clients reach the mirror by this name over plain HTTP only)",
            settings.ca.dir.display()
        ),
    };
    let names = Permitted::default().and_hosts(settings.mirror_hosts());
    let lacking = issuing.lacks(&settings.permitted()?).into_iter().map(mistake);
    let lacking: Vec<Mistake> = lacking.chain(issuing.lacks(&names).into_iter().map(of_mirror)).collect();
    Ok((!lacking.is_empty()).then(|| Mistakes::new(lacking)))
}

/// What is to be known of the CA: that it has expired, or that strict clients refuse its root. Nothing where there is none yet.
///
/// # Errors
/// An error of reading the CA's folder.
pub fn check_root(settings: &Settings) -> Result<Vec<String>, ca::Error> {
    let (dir, now) = (&settings.ca.dir, SystemTime::now());
    let Some(overview) = Overview::read(dir)? else { return Ok(Vec::new()) };
    Ok(overview.expired_notice(dir, now).into_iter().chain(overview.strict_notice(dir)).collect())
}
