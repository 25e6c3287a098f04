//! Checks the certificate files that a configuration names: trusted certificates, a client certificate and its key.

use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::mistakes::report::Report;
use crate::config::tree::KeyPath;

/// Checks the three files of one host or endpoint.
pub(crate) fn judge(
    ca: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
    path: &KeyPath,
    report: &mut Report<'_>,
) {
    if let Some(Err(problem)) = ca.map(roots) {
        report.say(&path.key("ca_file"), problem);
    }
    let chain = certificate.map(certificates);
    if let Some(Err(problem)) = &chain {
        report.say(&path.key("client_cert_file"), problem.as_str());
    }
    let secret = key.map(private_key);
    if let Some(Err(problem)) = &secret {
        report.say(&path.key("client_key_file"), problem.as_str());
    }
    match (chain, secret) {
        (Some(_), None) => report.say(&path.key("client_cert_file"), "has no key; expected client_key_file as well"),
        (None, Some(_)) => {
            report.say(&path.key("client_key_file"), "has no certificate; expected client_cert_file as well");
        }
        (Some(Ok(chain)), Some(Ok(secret))) if !belong_together(&chain, &secret) => {
            report.say(
                &path.key("client_key_file"),
                "does not match client_cert_file; expected the key of that certificate",
            );
        }
        _ => {}
    }
}

/// Checks the certificate that a listener has, and its key. The leaf, where they are right.
pub(crate) fn judge_own(
    certificate: &Path,
    key: &Path,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Option<CertificateDer<'static>> {
    match (certificates(certificate), private_key(key)) {
        (Ok(chain), Ok(secret)) if !belong_together(&chain, &secret) => {
            report.say(&path.key("key_file"), "does not match cert_file; expected the key of that certificate");
        }
        (Ok(chain), Ok(_)) => return chain.into_iter().next(),
        (chain, secret) => {
            if let Err(problem) = chain {
                report.say(&path.key("cert_file"), problem);
            }
            if let Err(problem) = secret {
                report.say(&path.key("key_file"), problem);
            }
        }
    }
    None
}

fn belong_together(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> bool {
    CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &aws_lc_rs::default_provider()).is_ok()
}

fn roots(file: &Path) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        let unusable =
            |_| format!("{}: contains a certificate that cannot be parsed; expected PEM certificates", file.display());
        store.add(certificate).map_err(unusable)?;
    }
    Ok(())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let broken = |_| format!("{}: not valid PEM; expected certificates", file.display());
    let bytes = read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(broken)?;
    if certificates.is_empty() {
        return Err(format!("{}: contains no certificate; expected PEM certificates", file.display()));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let none = |_| format!("{}: contains no private key; expected one in PEM", file.display());
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(none)
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: {error}; expected a readable file", file.display()))
}
