//! Holds an issuing certificate that is ready to sign, after a trial under its root as a client would verify it.
//!
//! The trial finds at the start what clients would refuse later: an issuing certificate of another root, or a root
//! whose name rcgen cannot reproduce (two OUs).

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::Error;
use super::certificate::Certificate;
use super::constraints::Constraints;
use super::mint::{self, DAY};
use crate::host;
use crate::oci::Host;

/// The issuing certificate, its key, its constraints.
pub(super) struct Chain {
    certificate: CertificateDer<'static>,
    constraints: Constraints,
    /// The validity that both it and the root have.
    from: SystemTime,
    until: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Chain {
    /// Joins certificate and key, and verifies one of their leaves under `root` at `now`. `paths` are those of the
    /// issuing certificate and of the root, for the errors.
    ///
    /// # Errors
    /// [`Error::Unconstrained`], [`Error::Chain`], [`Error::Sign`].
    pub(super) fn join(
        root: &Certificate,
        issuing: Certificate,
        key: KeyPair,
        paths: (&Path, &Path),
        now: SystemTime,
    ) -> Result<Self, Error> {
        let bounded = issuing.constraints.filter(Constraints::is_bounded);
        let constraints = bounded.ok_or_else(|| Error::Unconstrained(paths.0.to_owned()))?;
        let issuer = Issuer::from_ca_cert_der(&issuing.der, key)?;
        let (from, until) = (issuing.from.max(root.from), issuing.until.min(root.until));
        let chain = Self { certificate: issuing.der, constraints, from, until, issuer };
        let (issuing, root_path) = (paths.0.to_owned(), paths.1.to_owned());
        match chain.verify(root, now) {
            Err(Error::Tls(source)) => Err(Error::Chain { issuing, root: root_path, source }),
            Err(error) => Err(error),
            Ok(()) => Ok(chain),
        }
    }

    /// Mints a leaf for `host`, valid from a day ago until `until`, within the validity of its issuers. It comes with its
    /// key and is followed by the issuing certificate.
    pub(super) fn leaf(&self, host: &Host, now: SystemTime, until: SystemTime) -> Result<Leaf, Error> {
        if !self.constraints.covers(host) {
            return Err(Error::NotCovered(host.clone()));
        }
        let until = until.min(self.until);
        let (leaf, key) = mint::leaf(&self.issuer, host, self.from.max(now - DAY), until)?;
        Ok(Leaf { certificates: vec![leaf, self.certificate.clone()], key, until })
    }

    /// The constraints in the certificate itself.
    pub(super) fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// The expiry of the issuing certificate.
    pub(super) fn until(&self) -> SystemTime {
        self.until
    }

    fn verify(&self, root: &Certificate, now: SystemTime) -> Result<(), Error> {
        let example = self.constraints.example();
        let host = example.ok_or_else(|| rustls::Error::General("the constraints name no usable host".to_owned()))?;
        let leaf = self.leaf(&host, now, self.until)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.der.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let name = ServerName::try_from(host.to_string()).map_err(|error| rustls::Error::General(error.to_string()))?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let [end, above @ ..] = leaf.certificates.as_slice() else { return Ok(()) };
        verifier.verify_server_cert(end, above, &name, &[], UnixTime::since_unix_epoch(since))?;
        Ok(())
    }
}

/// The certificates and the key that a TLS server presents for one host.
pub(super) struct Leaf {
    /// The leaf, then the issuing certificate. Not the root, which a client either has or does not trust.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) until: SystemTime,
}

/// aws-lc, named outright: the process-wide default belongs to the binary.
pub(super) fn provider() -> Arc<CryptoProvider> {
    host::crypto()
}
