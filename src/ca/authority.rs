//! Opens the CA from its folder or makes it, and signs leaves for the hosts that its constraints cover.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use rustls::ServerConfig;

use super::certificate::Certificate;
use super::chain::Chain;
use super::constraints::Constraints;
use super::folder::{Folder, Pair};
use super::leaves::Leaves;
use super::mint::{self, ISSUING_RESERVE};
use super::overview::strict_notice;
use super::{Config, Error, Permitted};
use crate::oci::Host;

/// A root made before this moment (2025-01-01) would be the work of a clock that was never set.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);
const SHORTEST_LEAF: Duration = Duration::from_secs(3600);
const ROOT_EXPIRED: &str = "every node must trust a new one; move ca.crt and the other files away to make a new CA";
const ISSUING_EXPIRED: &str = "put ca.key back to have it made again";

/// Signs leaves. It does not keep the root's key in memory.
pub struct CertificateAuthority {
    root: Certificate,
    fingerprint: String,
    sealed: bool,
    leaves: Leaves,
}

impl CertificateAuthority {
    /// Opens the folder of `config` and makes root and issuing certificate on the first start. Mints the issuing
    /// certificate again when `permitted` changed or it nears its end, as long as the root's key is there.
    /// Blocks: files, fsync, and the lock of another process doing the same.
    ///
    /// # Errors
    /// [`Error`], each with its cure. Nothing was overwritten then.
    pub fn open(config: &Config, permitted: &Permitted) -> Result<Self, Error> {
        Self::open_with_clock(config, permitted, SystemTime::now)
    }

    /// As [`CertificateAuthority::open`], with another clock than the system's.
    ///
    /// # Errors
    /// As [`CertificateAuthority::open`].
    pub fn open_with_clock(
        config: &Config,
        permitted: &Permitted,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        if config.leaf_lifetime.0 < SHORTEST_LEAF {
            return Err(Error::LeafLifetime);
        }
        let now = clock();
        let folder = Folder::open(&config.dir)?;
        let (root, root_key) = open_root(&folder, now)?;
        let chain = open_chain(&folder, &root, root_key.as_ref(), permitted, now)?;
        if let Some(notice) = strict_notice(&folder.certificate_path(Pair::Root), &root.strict_faults) {
            tracing::warn!("{notice}");
        }
        let leaves = Leaves::new(chain, config.leaf_lifetime.0, Box::new(clock));
        Ok(Self { fingerprint: root.fingerprint(), root, sealed: root_key.is_none(), leaves })
    }

    /// The root certificate that nodes trust, as one PEM block.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root.pem
    }

    /// SHA-256 of the root's DER, as `AA:BB:...`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether the root's key was absent when the folder was opened.
    #[must_use]
    pub fn sealed(&self) -> bool {
        self.sealed
    }

    /// Whether the issuing certificate's own constraints let it sign for `host`.
    #[must_use]
    pub fn covers(&self, host: &Host) -> bool {
        self.leaves.chain().constraints().covers(host)
    }

    /// The domains and networks of `permitted` that the issuing certificate does not cover; empty unless sealed.
    #[must_use]
    pub fn lacks(&self, permitted: &Permitted) -> Vec<String> {
        self.leaves.chain().constraints().lacks(permitted)
    }

    /// The first expiry of root and issuing certificate.
    #[must_use]
    pub fn expiry(&self) -> SystemTime {
        self.root.until.min(self.leaves.chain().until())
    }

    /// The TLS configuration for `host`: leaf and issuing certificate, TLS 1.2 and 1.3, ALPN h2 and http/1.1, session
    /// tickets. The leaf is minted once (0.2 ms, no I/O) and again before it expires. The name in the client's SNI is
    /// not checked here.
    ///
    /// # Errors
    /// [`Error::NotCovered`]; [`Error::Sign`] and [`Error::Tls`] where a library refuses.
    pub fn server_config(&self, host: &Host) -> Result<Arc<ServerConfig>, Error> {
        self.leaves.server(host)
    }

    /// The number of leaves minted since the folder was opened.
    #[must_use]
    pub fn leaves_minted(&self) -> u64 {
        self.leaves.minted()
    }
}

fn open_root(folder: &Folder, now: SystemTime) -> Result<(Certificate, Option<KeyPair>), Error> {
    let (certificate, key) = (folder.certificate_path(Pair::Root), folder.key_path(Pair::Root));
    let (root, root_key) = match (folder.certificate(Pair::Root)?, folder.key(Pair::Root)?) {
        (Some(root), Some(root_key)) if !root.fits(&root_key) => return Err(Error::Mismatch { certificate, key }),
        (Some(root), root_key) => (root, root_key),
        (None, Some(_)) => return Err(Error::Half { found: key, missing: certificate }),
        (None, None) => make_root(folder, now)?,
    };
    if !root.has_depth {
        return Err(Error::Shallow(certificate));
    }
    root.check_time(&certificate, now, ROOT_EXPIRED)?;
    Ok((root, root_key))
}

fn make_root(folder: &Folder, now: SystemTime) -> Result<(Certificate, Option<KeyPair>), Error> {
    let issuing = [folder.certificate_path(Pair::Issuing), folder.key_path(Pair::Issuing)];
    if let Some(orphan) = issuing.into_iter().find(|path| path.exists()) {
        return Err(Error::NoRoot(orphan));
    }
    if now < SystemTime::UNIX_EPOCH + EARLIEST {
        return Err(Error::Clock(now));
    }
    let minted = mint::root(now)?;
    let path = folder.certificate_path(Pair::Root);
    let root = Certificate::parse(&path, &minted.pem)?;
    folder.put(Pair::Root, &minted.pem, &minted.key.serialize_pem())?;
    tracing::info!(path = %path.display(), fingerprint = root.fingerprint(), "created a new CA");
    Ok((root, Some(minted.key)))
}

fn open_chain(
    folder: &Folder,
    root: &Certificate,
    root_key: Option<&KeyPair>,
    permitted: &Permitted,
    now: SystemTime,
) -> Result<Chain, Error> {
    let (certificate, key) = (folder.certificate_path(Pair::Issuing), folder.key_path(Pair::Issuing));
    let wanted = Constraints::from_permitted(permitted);
    let (issuing, issuing_key) = match (folder.certificate(Pair::Issuing)?, folder.key(Pair::Issuing)?) {
        (Some(issuing), Some(issuing_key)) if !issuing.fits(&issuing_key) => {
            return Err(Error::Mismatch { certificate, key });
        }
        (Some(issuing), Some(issuing_key)) => (issuing, issuing_key),
        (Some(_), None) => return Err(Error::Half { found: certificate, missing: key }),
        (None, Some(_)) => return Err(Error::Half { found: key, missing: certificate }),
        (None, None) => match root_key {
            Some(root_key) => return make_chain(folder, root, root_key, &wanted, now),
            None => return Err(Error::NoRootKey(folder.key_path(Pair::Root))),
        },
    };
    if !issuing.is_from(root) {
        return Err(Error::Foreign { issuing: certificate, root: folder.certificate_path(Pair::Root) });
    }
    match root_key {
        Some(root_key) if is_outdated(&issuing, root, &wanted, now) => make_chain(folder, root, root_key, &wanted, now),
        _ => {
            issuing.check_time(&certificate, now, ISSUING_EXPIRED)?;
            join(folder, root, issuing, issuing_key, now)
        }
    }
}

/// Whether its constraints differ from the wanted ones, it is so near its end that another would last longer, or it reaches
/// beyond the root's own validity, which some clients refuse.
fn is_outdated(issuing: &Certificate, root: &Certificate, wanted: &Constraints, now: SystemTime) -> bool {
    let changed = issuing.constraints.as_ref() != Some(wanted);
    let is_nested = root.from <= issuing.from && issuing.until <= root.until;
    changed || !is_nested || (issuing.until < now + ISSUING_RESERVE && issuing.until < root.until)
}

/// Makes a new key each time: a thief of the old one must not sign for what is permitted from now on. The pair is
/// written only after a trial.
fn make_chain(
    folder: &Folder,
    root: &Certificate,
    root_key: &KeyPair,
    wanted: &Constraints,
    now: SystemTime,
) -> Result<Chain, Error> {
    let minted = mint::issuing(root, root_key, wanted, now)?;
    let issuing = Certificate::parse(&folder.certificate_path(Pair::Issuing), &minted.pem)?;
    let key_pem = minted.key.serialize_pem();
    let chain = join(folder, root, issuing, minted.key, now)?;
    folder.put(Pair::Issuing, &minted.pem, &key_pem)?;
    tracing::info!(
        domains = wanted.domains().count(),
        networks = wanted.networks().count(),
        "minted the issuing certificate"
    );
    Ok(chain)
}

fn join(
    folder: &Folder,
    root: &Certificate,
    issuing: Certificate,
    key: KeyPair,
    now: SystemTime,
) -> Result<Chain, Error> {
    let paths = (folder.certificate_path(Pair::Issuing), folder.certificate_path(Pair::Root));
    Chain::join(root, issuing, key, (&paths.0, &paths.1), now)
}
