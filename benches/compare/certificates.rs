//! The lab's own CA: leaves for the origin and for the peers that need one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ServerConfig};

/// The name that everything is pulled from.
pub(crate) const HOST: &str = "registry.bench.test";

/// A leaf's chain and key, as files.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The CA's files, an ECDSA leaf and an RSA one.
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    /// Certificate and key in one file, as Squid wants it.
    pub(crate) ca_with_key: PathBuf,
    pub(crate) ecdsa: Leaf,
    pub(crate) rsa: Leaf,
}

impl Certificates {
    /// Makes them in `folder`.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "bench CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let (ca, ca_with_key) = (folder.join("ca.crt"), folder.join("ca.pem"));
        std::fs::write(&ca, &pem)?;
        std::fs::write(&ca_with_key, pem + &key.serialize_pem())?;
        let issuer = Issuer::new(params, key);
        let leaf = |name: &str, key: KeyPair| -> anyhow::Result<Leaf> {
            let names = vec![HOST.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, HOST);
            let certificate = params.signed_by(&key, &issuer)?;
            let leaf =
                Leaf { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
            std::fs::write(&leaf.certificate, certificate.pem())?;
            std::fs::write(&leaf.key, key.serialize_pem())?;
            Ok(leaf)
        };
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        Ok(Self { ecdsa: leaf("ecdsa", KeyPair::generate()?)?, rsa: leaf("rsa", rsa)?, ca, ca_with_key })
    }

    /// TLS for the origin: HTTP/1.1, as most CDNs are spoken to by their clients.
    pub(crate) fn origin(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = read(&self.ecdsa.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.ecdsa.key)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The certificates of a PEM file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).with_context(|| format!("{} cannot be read", path.display()))?.collect();
    Ok(found?)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// As Go's clients offer it, which is what container daemons are: AES-128-GCM first.
pub(crate) fn client_provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => 1,
        _ => 2,
    });
    Arc::new(provider)
}
