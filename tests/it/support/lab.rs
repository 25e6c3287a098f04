//! The lab's certificate authority: one for the whole test run, and certificates of every kind of wrong.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What a server's certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Signed by the lab's CA, for the server's names.
    Good,
    /// As good, but it ended yesterday.
    Expired,
    /// Signed by a CA that nobody knows.
    UnknownCa,
    /// Signed by the lab's CA, for another name.
    OtherName,
    /// This one.
    Own(&'static OwnCertificate),
}

/// A certificate of the test's, in files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl OwnCertificate {
    /// One that `openssl` makes in `folder`: `more` are arguments of `openssl req -x509`.
    pub(crate) fn by_openssl(folder: &Path, name: &str, more: &[&str]) -> &'static Self {
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        let mut command = std::process::Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lab"]).args(more);
        let output = command.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::of_files(certificate, key)
    }

    pub(crate) fn of_files(certificate: PathBuf, key: PathBuf) -> &'static Self {
        Box::leak(Box::new(Self { certificate, key }))
    }

    /// With no look at whether certificate and key are of use.
    fn resolver(&self) -> Arc<SingleCertAndKey> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&self.certificate).unwrap().collect();
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        Arc::new(CertifiedKey::new(chain.unwrap(), key).into())
    }
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

struct Lab {
    known: Ca,
    unknown: Ca,
    folder: tempfile::TempDir,
}

static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let (known, unknown) = (Ca::new("lab CA"), Ca::new("unknown CA"));
    std::fs::write(folder.path().join("lab-ca.crt"), &known.pem).unwrap();
    Lab { known, unknown, folder }
});

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }
}

/// The lab CA's certificate, in PEM.
pub(crate) fn ca_file() -> PathBuf {
    LAB.folder.path().join("lab-ca.crt")
}

/// A server's TLS for `names`.
pub(crate) fn server_config(
    names: &[String],
    certificate: Certificate,
    alpn: &[&[u8]],
    client_certificate: bool,
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = if client_certificate {
        let roots = Arc::new(roots(&[&ca_file()]));
        builder
            .with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let mut config = if let Certificate::Own(own) = certificate {
        builder.with_cert_resolver(own.resolver())
    } else {
        let (leaf, key) = leaf(names, certificate);
        builder.with_single_cert(vec![leaf.der().clone()], key_der(&key)).unwrap()
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// A client's certificate and key of the lab's CA, as files.
pub(crate) fn client_certificate() -> (PathBuf, PathBuf) {
    let (certificate, key) = leaf(&["client".to_owned()], Certificate::Good);
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = |kind: &str| LAB.folder.path().join(format!("client-{number}.{kind}"));
    let (certificate_file, key_file) = (file("crt"), file("key"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    (certificate_file, key_file)
}

fn leaf(names: &[String], certificate: Certificate) -> (rcgen::Certificate, KeyPair) {
    let names = if certificate == Certificate::OtherName { vec!["other.example".to_owned()] } else { names.to_vec() };
    let mut params = CertificateParams::new(names).unwrap();
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(30);
    params.not_after = now + time::Duration::days(if certificate == Certificate::Expired { -1 } else { 30 });
    let ca = if certificate == Certificate::UnknownCa { &LAB.unknown } else { &LAB.known };
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &ca.issuer).unwrap();
    (leaf, key)
}

fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// A client's TLS that trusts the certificates in these files and no others.
pub(crate) fn client_config(ca_files: &[&Path], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca_files))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

fn roots(ca_files: &[&Path]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for file in ca_files {
        for certificate in CertificateDer::pem_file_iter(file).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
    }
    roots
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
