//! What the tests of the CA share: a folder, an authority in it, a forger with the issuing key, TLS in memory.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pullthrough::ca::{CertificateAuthority, Config, Error, Permitted};
use pullthrough::host::Period;
use pullthrough::oci::{Host, HostPattern};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;

/// A CA's folder that ends with the test.
pub(crate) struct Lab {
    _temporary: TempDir,
    pub(crate) config: Config,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let config = Config { dir: temporary.path().join("ca"), ..Config::default() };
        Self { _temporary: temporary, config }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.config.dir.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn open(&self, patterns: &[&str]) -> CertificateAuthority {
        self.try_open(patterns).unwrap()
    }

    pub(crate) fn try_open(&self, patterns: &[&str]) -> Result<CertificateAuthority, Error> {
        CertificateAuthority::open(&self.config, &permitted(patterns))
    }

    pub(crate) fn open_at(&self, patterns: &[&str], now: SystemTime) -> Result<CertificateAuthority, Error> {
        CertificateAuthority::open_with_clock(&self.config, &permitted(patterns), move || now)
    }

    /// Names and contents of all files, to show that nothing was touched.
    pub(crate) fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(&self.config.dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with(".lock"))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// What a thief of the issuing key would serve: a leaf for `name`, the issuing certificate with it.
    pub(crate) fn forge(&self, name: &str) -> Arc<ServerConfig> {
        let issuing = CertificateDer::from_pem_slice(self.read("issuing.crt").as_bytes()).unwrap();
        let stolen = KeyPair::from_pem(&self.read("issuing.key")).unwrap();
        let issuer = Issuer::from_ca_cert_der(&issuing, stolen).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "forged");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
        params.not_after = (SystemTime::now() + Duration::from_secs(86_400)).into();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.into(), issuing], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        Arc::new(config)
    }
}

pub(crate) fn permitted(patterns: &[&str]) -> Permitted {
    let patterns: Vec<HostPattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
    Permitted::of(&patterns).unwrap()
}

pub(crate) fn host(text: &str) -> Host {
    text.parse().unwrap()
}

pub(crate) fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

pub(crate) fn period(duration: Duration) -> Period {
    Period(duration)
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A client that trusts `root` alone.
pub(crate) fn client(
    root: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Both ends after a handshake in memory, or the error of the end that gave up.
pub(crate) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = match name.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => ServerName::try_from(name.to_owned()).unwrap(),
    };
    let mut client = ClientConnection::new(client.clone(), name)?;
    let mut server = ServerConnection::new(server.clone())?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}
