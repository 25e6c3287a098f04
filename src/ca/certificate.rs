//! Parses a CA's certificate: the bytes, and the few facts that matter here.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;

use super::constraints::Constraints;
use super::{Error, strict};

/// One certificate that may sign others.
#[derive(Clone)]
pub(super) struct Certificate {
    /// The PEM block, without the rest of the file.
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) subject: String,
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
    /// `None` without the extension.
    pub(super) constraints: Option<Constraints>,
    /// Whether CA certificates may be issued below it (RFC 5280, 4.2.1.9). webpki does not check this in a root;
    /// OpenSSL and others do.
    pub(super) has_depth: bool,
    /// What strict verifiers refuse in it, if it is a root.
    pub(super) strict_faults: Vec<&'static str>,
    public_key: Vec<u8>,
    name: Vec<u8>,
    issuer: Vec<u8>,
}

impl Certificate {
    /// Parses the text of a file; `path` is for the errors.
    ///
    /// # Errors
    /// [`Error::BadCertificate`] and [`Error::NotCa`].
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let bad = || Error::BadCertificate(path.to_owned());
        let pem = only_block(text).ok_or_else(bad)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
        let (rest, x509) = x509_parser::parse_x509_certificate(&der).map_err(|_| bad())?;
        if !rest.is_empty() || !plain_name(&x509) {
            return Err(bad());
        }
        if !may_sign(&x509) {
            return Err(Error::NotCa(path.to_owned()));
        }
        let constraints = match x509.name_constraints().map_err(|_| bad())? {
            Some(extension) => Some(Constraints::from_extension(extension.value).ok_or_else(bad)?),
            None => None,
        };
        Ok(Self {
            pem,
            subject: x509.subject().to_string(),
            from: moment(x509.validity().not_before.timestamp()),
            until: moment(x509.validity().not_after.timestamp()),
            constraints,
            has_depth: path_length(&x509) != Some(0),
            strict_faults: strict::faults(&x509),
            public_key: x509.public_key().subject_public_key.data.to_vec(),
            name: x509.subject().as_raw().to_vec(),
            issuer: x509.issuer().as_raw().to_vec(),
            der: der.into_owned(),
        })
    }

    /// Whether `key` is its private key.
    pub(super) fn fits(&self, key: &KeyPair) -> bool {
        self.public_key == key.der_bytes()
    }

    /// Whether it names `root` as its issuer. The signature is verified when the chain is joined.
    pub(super) fn is_from(&self, root: &Self) -> bool {
        self.issuer == root.name
    }

    /// SHA-256 of the DER, as `AA:BB:...`.
    pub(super) fn fingerprint(&self) -> String {
        let bytes: Vec<String> = Sha256::digest(&self.der).iter().map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    }

    /// Checks that `now` is within its validity.
    ///
    /// # Errors
    /// [`Error::NotYetValid`], and [`Error::Expired`] with `cure` as its remedy.
    pub(super) fn check_time(&self, path: &Path, now: SystemTime, cure: &'static str) -> Result<(), Error> {
        if now < self.from {
            return Err(Error::NotYetValid { path: path.to_owned(), from: self.from });
        }
        if now >= self.until {
            return Err(Error::Expired { path: path.to_owned(), at: self.until, cure });
        }
        Ok(())
    }
}

/// The only PEM block of `text`, a certificate. Threat: a file that also holds the key would be published to every node
/// by `/ca.crt`. Defence: a second block is refused, and the text around the block is dropped.
fn only_block(text: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let start = text.find("-----BEGIN CERTIFICATE-----")?;
    let end = text.find(END)? + END.len();
    let blocks = text.matches("-----BEGIN").count();
    (blocks == 1).then(|| text.get(start..end)).flatten().map(|block| format!("{block}\n"))
}

/// Whether every part of the subject has one attribute: rcgen panics on an empty part, and cannot write two.
fn plain_name(x509: &X509Certificate<'_>) -> bool {
    x509.subject().iter().all(|part| part.iter().count() == 1)
}

fn may_sign(x509: &X509Certificate<'_>) -> bool {
    let ca = matches!(x509.basic_constraints(), Ok(Some(extension)) if extension.value.ca);
    let usage = match x509.key_usage() {
        Ok(Some(extension)) => extension.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    ca && usage
}

fn path_length(x509: &X509Certificate<'_>) -> Option<u32> {
    x509.basic_constraints().ok().flatten().and_then(|extension| extension.value.path_len_constraint)
}

/// The time of seconds since 1970. Earlier times become 1970.
fn moment(timestamp: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(is_ca: rcgen::IsCa) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn only_the_block_of_one_certificate_is_kept() {
        let pem = certificate(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        let path = Path::new("ca.crt");
        let parsed = Certificate::parse(path, &format!("some words\n{pem}\nmore words")).unwrap();
        assert_eq!(parsed.pem.trim_end(), pem.trim_end());
        let key = KeyPair::generate().unwrap().serialize_pem();
        for text in [format!("{pem}{key}"), format!("{key}{pem}"), format!("{pem}{pem}"), key, String::new()] {
            assert!(matches!(Certificate::parse(path, &text), Err(Error::BadCertificate(_))), "{text}");
        }
    }

    #[test]
    fn a_certificate_that_is_no_ca_is_refused() {
        for is_ca in [rcgen::IsCa::NoCa, rcgen::IsCa::ExplicitNoCa] {
            let parsed = Certificate::parse(Path::new("ca.crt"), &certificate(is_ca));
            assert!(matches!(parsed, Err(Error::NotCa(_))));
        }
    }

    #[test]
    fn damaged_certificates_are_refused_and_never_panic() {
        let pem = certificate(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        for at in 28..pem.len() - 27 {
            let mut bytes = pem.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(bytes).unwrap();
            let _ = Certificate::parse(Path::new("ca.crt"), &text); // a flipped bit of the key may well parse
            assert!(Certificate::parse(Path::new("ca.crt"), &pem[..at]).is_err(), "cut at {at}");
        }
    }
}
