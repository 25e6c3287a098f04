//! TLS towards upstreams: always verified, with the system's roots and those that the configuration adds.
//!
//! Never: an option that turns verification off.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, OtherError, RootCertStore};

use super::verifier::Verifier;
use crate::oci::{Authority, Host};
use crate::upstream::{Error, HostConfig};

/// What every TLS configuration has in common, read once.
pub(crate) struct Roots {
    system: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Roots {
    /// Reads the system's roots. A machine without any still reaches endpoints that have a `ca_file`.
    pub(crate) fn read() -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "cannot read some of the system's root certificates");
        }
        let mut system = RootCertStore::empty();
        let (added, _) = system.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!(
                "this machine has no root certificates (package ca-certificates); only hosts with a ca_file can be verified"
            );
        }
        Self { system, provider: crate::host::crypto() }
    }

    /// No roots, for tests that dial nobody.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { system: RootCertStore::empty(), provider: crate::host::crypto() }
    }

    /// The TLS configuration for a host; `further` is a file of more issuers to trust. The host's own `ca_file` may also hold
    /// the very certificate that the host presents.
    pub(crate) fn config(&self, host: &HostConfig, further: Option<&Path>) -> Result<ClientConfig, Error> {
        let unusable = |path: &Path| Error::Pem { path: path.to_owned(), expected: "CA certificate" };
        let mut verifier = Verifier::new(self.system.clone(), &self.provider);
        if let Some(path) = further {
            verifier.trust_issuers(&certificates(path)?).map_err(|_| unusable(path))?;
        }
        if let Some(path) = &host.ca_file {
            verifier.trust(certificates(path)?).map_err(|_| unusable(path))?;
        }
        // rustls calls every verifier but its own dangerous: this one adds a rule, and drops none.
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Setup { source: Arc::new(error) })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (&host.client_cert_file, &host.client_key_file) {
            (None, None) => builder.with_no_client_auth(),
            (Some(chain), Some(key)) => builder
                .with_client_auth_cert(certificates(chain)?, private_key(key)?)
                .map_err(|_| Error::ClientCertificate { path: chain.clone() })?,
            (Some(path), None) | (None, Some(path)) => return Err(Error::ClientCertificate { path: path.clone() }),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::File { path: path.to_owned(), source: Arc::new(error) })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found
        .ok()
        .filter(|list| !list.is_empty())
        .ok_or_else(|| Error::Pem { path: path.to_owned(), expected: "certificate" })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| Error::Pem { path: path.to_owned(), expected: "private key" })
}

/// The name that a certificate must be for.
pub(crate) fn server_name(to: &Authority) -> Result<ServerName<'static>, Error> {
    match &to.host {
        Host::Address(address) => Ok(ServerName::from(*address)),
        Host::Name(name) => ServerName::try_from(name.to_string())
            .map_err(|error| Error::Tls { to: to.clone(), source: Arc::new(error) }),
    }
}

/// What a failed handshake means.
pub(crate) fn handshake_failed(to: &Authority, error: std::io::Error) -> Error {
    let to = to.clone();
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
    match cause {
        Some(source @ rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            Error::UnknownIssuer { to, source: Arc::new(source) }
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(source)))) => {
            Error::Certificate { to, source } // in our own words: rustls prints it for programmers
        }
        Some(source @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
            Error::Certificate { to, source: Arc::new(source) }
        }
        _ => Error::Tls { to, source: Arc::new(error) },
    }
}
