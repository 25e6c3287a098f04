//! Serves TLS with a certificate that the operator has from another CA, as the mirror's own names may have one.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::chain::provider;
use super::{Error, leaves};

/// Reads certificate, chain and key. Blocks on the files.
///
/// # Errors
/// [`Error::Operator`].
pub fn operator_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let unusable = |file: &Path, text: String| Error::Operator { file: file.to_owned(), text };
    let read = |file: &Path| std::fs::read(file).map_err(|error| unusable(file, error.to_string()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "contains no certificate".to_owned()));
    }
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| unusable(key, error.to_string()))?;
    leaves::server_config(provider(), chain, key_der).map(Arc::new)
}
