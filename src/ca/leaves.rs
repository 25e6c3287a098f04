//! Keeps a TLS server configuration for each intercepted host, minted once and kept until its leaf nears its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use moka::ops::compute::Op;
use moka::sync::Cache;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};

use super::Error;
use super::chain::{Chain, provider};
use super::mint::DAY;
use crate::host::has_aes;
use crate::oci::Host;

/// The number of hosts kept. Threat: a client names endless subdomains of a permitted one. Cost: it pays a handshake
/// for each leaf (0.2 ms of our CPU), and evicts the leaves of others.
const KEPT: u64 = 1024;

/// The leaves of one chain.
pub(super) struct Leaves {
    chain: Chain,
    lifetime: Duration,
    provider: Arc<CryptoProvider>,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    kept: Cache<Host, Kept>,
    minted: AtomicU64,
}

#[derive(Clone)]
struct Kept {
    server: Arc<ServerConfig>,
    fresh_from: SystemTime,
    fresh_until: SystemTime,
}

impl Kept {
    /// By the wall clock, by which clients judge a leaf: it may be set back, or run on during a suspend.
    fn is_fresh(&self, now: SystemTime) -> bool {
        self.fresh_from <= now && now < self.fresh_until
    }
}

impl Leaves {
    pub(super) fn new(chain: Chain, lifetime: Duration, clock: Box<dyn Fn() -> SystemTime + Send + Sync>) -> Self {
        let (kept, minted) = (Cache::new(KEPT), AtomicU64::new(0));
        Self { chain, lifetime, provider: provider(), clock, kept, minted }
    }

    /// The chain that signs them.
    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The number of leaves minted.
    pub(super) fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    /// The configuration for `host`: kept or minted. Concurrent callers wait for one mint.
    pub(super) fn server(&self, host: &Host) -> Result<Arc<ServerConfig>, Error> {
        let now = (self.clock)();
        if let Some(kept) = self.kept.get(host).filter(|kept| kept.is_fresh(now)) {
            return Ok(kept.server);
        }
        let computed = self.kept.entry_by_ref(host).and_try_compute_with(|entry| match entry {
            Some(entry) if entry.value().is_fresh(now) => Ok(Op::Nop),
            _ => self.mint(host, now).map(Op::Put),
        });
        match computed?.into_entry() {
            Some(entry) => Ok(entry.into_value().server),
            None => self.mint(host, now).map(|kept| kept.server),
        }
    }

    fn mint(&self, host: &Host, now: SystemTime) -> Result<Kept, Error> {
        let until = now.checked_add(self.lifetime).unwrap_or(self.chain.until());
        let leaf = self.chain.leaf(host, now, until)?;
        let left = leaf.until.duration_since(now).unwrap_or_default();
        let server = server_config(self.provider.clone(), leaf.certificates, leaf.key)?;
        self.minted.fetch_add(1, Ordering::Relaxed);
        // A third of its life is left when it is replaced, for clients whose clocks are ahead.
        Ok(Kept { server: Arc::new(server), fresh_from: now - DAY, fresh_until: now + left * 2 / 3 })
    }
}

/// TLS with this certificate: 1.2 and 1.3, h2 and http/1.1, session tickets.
pub(super) fn server_config(
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A ticket key for each host: a session is valid at its own host only.
    server.ticketer = Ticketer::new()?;
    // A returning client gets another one then. Most clients are written in Go and never resume.
    server.send_tls13_tickets = 1;
    // Without AES instructions our side is the slow one, whatever the client prefers.
    server.ignore_client_order = !has_aes();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(server)
}
