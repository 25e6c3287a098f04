//! Verifies an upstream's certificate: signed by a trusted CA, or byte for byte one that the operator named in `ca_file`.
//!
//! `openssl req -x509` makes certificates that say of themselves that they are a CA's. OpenSSL and Go accept one that is in
//! their trust store as a server's own; webpki never does. Here it is accepted for its names and its dates, at the hosts
//! that the `ca_file` is for.
//!
//! Never: a certificate whose names, dates or purpose do not fit; a handshake whose signature is not verified.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

/// Trusts the issuers in `roots`, and the certificates in `pinned` themselves.
#[derive(Debug)]
pub(crate) struct Verifier {
    roots: RootCertStore,
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why no TLS client of today takes a certificate, where webpki's own words do not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableCertificate {
    /// X.509 version 1 or 2: it has no extensions, and so no names.
    #[error(
        "it is an X.509 certificate of version 1, which cannot name a host: make one with a subjectAltName \
         (openssl req -x509 -addext subjectAltName=DNS:HOST)"
    )]
    Version,
    /// A CA's own certificate as the server's, and it is not pinned.
    #[error("it is a CA's own certificate: if that is the server's on purpose, name its file in ca_file")]
    Authority,
    /// Its extended key usage leaves servers out.
    #[error("its extended key usage does not include serverAuth")]
    Purpose,
}

impl Verifier {
    /// Trusts `roots` alone.
    pub(crate) fn new(roots: RootCertStore, provider: &CryptoProvider) -> Self {
        Self { roots, pinned: Vec::new(), algorithms: provider.signature_verification_algorithms }
    }

    /// Trusts these as issuers, too, except for those that say that they are none.
    ///
    /// # Errors
    /// What webpki says of a certificate that cannot be parsed.
    pub(crate) fn trust_issuers(&mut self, issuers: &[CertificateDer<'static>]) -> Result<(), Error> {
        issuers.iter().filter(|issuer| !is_no_ca(issuer)).try_for_each(|issuer| self.roots.add(issuer.clone()))
    }

    /// Trusts these as issuers and as servers' own certificates.
    ///
    /// # Errors
    /// As of [`Verifier::trust_issuers`].
    pub(crate) fn trust(&mut self, own: Vec<CertificateDer<'static>>) -> Result<(), Error> {
        self.trust_issuers(&own)?;
        self.pinned.extend(own);
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity).map_err(|error| unreadable(end_entity, error))?;
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            check_pinned(end_entity, now)?;
        } else {
            let algorithms = self.algorithms.all;
            let chain =
                verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms);
            chain.map_err(|error| explained(end_entity, error))?;
        }
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What webpki checks of an end entity besides its issuer: dates (RFC 5280, 4.1.2.5) and purpose (4.2.1.12).
fn check_pinned(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let certificate = parsed(der).ok_or(CertificateError::BadEncoding)?;
    let time =
        |timestamp: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(timestamp).unwrap_or_default()));
    let not_before = time(certificate.validity().not_before.timestamp());
    let not_after = time(certificate.validity().not_after.timestamp());
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    let usage = certificate.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        return Err(UnusableCertificate::Purpose.into());
    }
    Ok(())
}

/// webpki reads certificates of version 3 only.
fn unreadable(der: &CertificateDer<'_>, error: Error) -> Error {
    let is_old = parsed(der).is_some_and(|certificate| certificate.version() != X509Version::V3);
    if is_old { UnusableCertificate::Version.into() } else { error }
}

/// Puts into words what webpki says of a CA's certificate that a server presents as its own.
fn explained(der: &CertificateDer<'_>, error: Error) -> Error {
    let is_unexplained = matches!(error, Error::InvalidCertificate(CertificateError::Other(_)));
    match parsed(der).filter(|certificate| is_unexplained && certificate.is_ca()) {
        Some(certificate) if certificate.subject() == certificate.issuer() => CertificateError::UnknownIssuer.into(),
        Some(_) => UnusableCertificate::Authority.into(),
        None => error,
    }
}

/// Whether it says that it may issue nothing. One that says neither, as those of version 1, is left to webpki.
fn is_no_ca(der: &CertificateDer<'_>) -> bool {
    parsed(der)
        .and_then(|certificate| certificate.basic_constraints().ok().flatten().map(|extension| !extension.value.ca))
        .unwrap_or(false)
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate)
}

impl From<UnusableCertificate> for Error {
    fn from(unusable: UnusableCertificate) -> Self {
        CertificateError::Other(OtherError(Arc::new(unusable))).into()
    }
}
