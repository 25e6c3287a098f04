//! TLS towards upstreams: always verified, with the system's roots and those that the configuration adds.
//!
//! Never: an option that turns verification off.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
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
            match WrongDate::of(&source) {
                Some(date) => Error::Certificate { to, source: Arc::new(date) },
                None => Error::Certificate { to, source: Arc::new(source) },
            }
        }
        _ => Error::Tls { to, source: Arc::new(error) },
    }
}

/// A certificate that is not valid now, by this machine's clock; rustls prints seconds since 1970.
#[derive(Debug, thiserror::Error)]
#[error(
    "it {} {}, and this machine's clock says {}: the certificate or this clock is wrong",
    if *is_early { "is not valid before" } else { "expired at" },
    rfc3339(*limit),
    rfc3339(*now)
)]
pub(crate) struct WrongDate {
    /// Whether its time has yet to come.
    pub(crate) is_early: bool,
    limit: UnixTime,
    now: UnixTime,
}

impl WrongDate {
    fn of(error: &rustls::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(flaw) = error else { return None };
        match flaw {
            CertificateError::ExpiredContext { time, not_after } => {
                Some(Self { is_early: false, limit: *not_after, now: *time })
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Some(Self { is_early: true, limit: *not_before, now: *time })
            }
            _ => None,
        }
    }
}

fn rfc3339(time: UnixTime) -> String {
    // What is beyond the year 9999 cannot be printed.
    let seconds = Duration::from_secs(time.as_secs().min(253_402_300_799));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + seconds).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::FailureReason;

    #[test]
    fn a_wrong_date_is_told_as_a_date_with_this_machines_clock_beside_it() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let to = Authority::parse("quay.io", 443).unwrap();
        let table = [
            (
                CertificateError::ExpiredContext { time: at(1_700_000_000), not_after: at(1_600_000_000) },
                FailureReason::CertificateExpired,
                "it expired at 2020-09-13T12:26:40Z, and this machine's clock says 2023-11-14T22:13:20Z",
            ),
            (
                CertificateError::NotValidYetContext { time: at(0), not_before: at(u64::MAX) },
                FailureReason::CertificateNotYetValid,
                "it is not valid before 9999-12-31T23:59:59Z, and this machine's clock says 1970-01-01T00:00:00Z",
            ),
        ];
        for (flaw, reason, words) in table {
            let error = std::io::Error::other(rustls::Error::InvalidCertificate(flaw));
            let error = handshake_failed(&to, error);
            assert_eq!(error.reason(), reason);
            let told = crate::host::chain(&error);
            assert!(told.contains(words) && told.ends_with("the certificate or this clock is wrong"), "{told}");
        }
    }
}
