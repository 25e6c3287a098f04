//! Performs a handshake of TLS with the CAs that this machine trusts, and tells who issued what it was shown.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::talk::{ANSWER, speak};
use super::verifier::RememberingVerifier;
use crate::oci::Authority;
use crate::wire::Body;

/// The CAs that a client trusts.
pub(super) struct PeerTrust {
    provider: Arc<CryptoProvider>,
    /// `None` where this machine trusts no CA at all.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

/// A connection to a host with TLS.
pub(super) struct Secured {
    pub(super) sender: SendRequest<Body>,
    /// Who issued the host's certificate.
    pub(super) issuer: String,
}

/// A handshake that failed: why, and who issued the certificate, if there was one.
pub(super) struct Distrust {
    pub(super) cause: anyhow::Error,
    pub(super) issuer: Option<String>,
}

impl Distrust {
    /// What is wrong with the certificate, where that is it.
    pub(super) fn flaw(&self) -> Option<&CertificateError> {
        let io = self.cause.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>())?;
        match io.get_ref()?.downcast_ref()? {
            rustls::Error::InvalidCertificate(flaw) => Some(flaw),
            _ => None,
        }
    }
}

impl PeerTrust {
    /// The system's roots, and those in the files.
    pub(super) fn new<'a>(files: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for file in files {
            let certificates =
                CertificateDer::pem_file_iter(file).with_context(|| format!("cannot read {}", file.display()))?;
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let is_empty = roots.is_empty();
        let verifier =
            || WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().map(Some);
        let verifier = if is_empty { None } else { verifier()? };
        Ok(Self { provider, verifier })
    }

    /// Starts TLS.
    pub(super) async fn secure<S>(&self, stream: S, to: &Authority) -> Result<Secured, Distrust>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let Some(verifier) = &self.verifier else {
            let cause = anyhow::anyhow!("this machine trusts no CA at all");
            return Err(Distrust { cause, issuer: None });
        };
        let presented = Arc::new(RememberingVerifier::new(verifier.clone()));
        let secured = self.handshake(stream, to, presented.clone()).await;
        let issuer = presented.issuer();
        match secured {
            Ok(sender) => Ok(Secured { sender, issuer: issuer.unwrap_or_default() }),
            Err(cause) => Err(Distrust { cause, issuer }),
        }
    }

    async fn handshake<S>(
        &self,
        stream: S,
        to: &Authority,
        presented: Arc<RememberingVerifier>,
    ) -> anyhow::Result<SendRequest<Body>>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let builder =
            ClientConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let tls = builder.dangerous().with_custom_certificate_verifier(presented).with_no_client_auth();
        let name = ServerName::try_from(to.host.to_string().trim_matches(['[', ']']).to_owned())?;
        let handshake = TlsConnector::from(Arc::new(tls)).connect(name, TokioIo::new(stream));
        let stream = tokio::time::timeout(ANSWER, handshake)
            .await
            .with_context(|| format!("connected, but no TLS handshake within {} s", ANSWER.as_secs()))??;
        speak(stream).await
    }
}
