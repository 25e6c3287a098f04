//! Connects as a container daemon does: to the proxy, through it by CONNECT, with the system's trusted CAs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::verifier::RememberingVerifier;
use crate::oci::Authority;
use crate::setup::ProxyUrl;
use crate::wire::{Body, collect_within};

/// A registry may be slow; a proxy on the same network is not.
const ANSWER: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
const LIMIT: usize = 4 << 20;

/// A client of the proxy.
pub(super) struct ProxyClient {
    pub(super) proxy: Authority,
    authorization: Option<String>,
    provider: Arc<CryptoProvider>,
    /// `None` where this machine trusts no CA at all.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

/// An open way through the proxy to a host.
pub(super) struct OpenTunnel {
    stream: Upgraded,
    /// Whether the host is a registry that the proxy's CA does not cover, so that nothing is taken off.
    pub(super) is_uncovered: bool,
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

/// A complete answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first line of its body, for people.
    pub(super) fn words(&self) -> String {
        String::from_utf8_lossy(&self.body).lines().next().unwrap_or_default().chars().take(300).collect()
    }
}

impl ProxyClient {
    /// Uses the proxy at `url`; trusts the system's roots and those in `ca`.
    pub(super) fn new(url: &ProxyUrl, ca: Option<&std::path::Path>) -> anyhow::Result<Self> {
        let Some(rest) = url.as_str().strip_prefix("http://") else {
            bail!("only http:// proxies can be tested");
        };
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let encode = |user| base64::engine::general_purpose::STANDARD.encode(percent_decoded(user));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(ca) = ca {
            let certificates =
                CertificateDer::pem_file_iter(ca).with_context(|| format!("cannot read {}", ca.display()))?;
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let is_empty = roots.is_empty();
        let verifier =
            || WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().map(Some);
        let verifier = if is_empty { None } else { verifier()? };
        Ok(Self {
            proxy: Authority::parse(host, 80)?,
            authorization: user.map(|user| format!("Basic {}", encode(user))),
            provider,
            verifier,
        })
    }

    /// Resolves the name of the proxy.
    pub(super) async fn resolve(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let host = self.proxy.host.to_string();
        let host = host.trim_matches(['[', ']']);
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, self.proxy.port)).await?.collect();
        if found.is_empty() { bail!("the name has no addresses") } else { Ok(found) }
    }

    /// Connects to the proxy.
    pub(super) async fn connect(&self) -> anyhow::Result<TcpStream> {
        let addresses = self.resolve().await?;
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&addresses[..])).await;
        Ok(connected.with_context(|| format!("no answer within {} s", CONNECT.as_secs()))??)
    }

    /// Fetches one of the proxy's own pages.
    pub(super) async fn page(&self, path: &str) -> anyhow::Result<Answer> {
        let mut sender = speak(self.connect().await?).await?;
        let request = Request::get(path).header(HOST, self.proxy.to_string()).body(Body::empty())?;
        ask(&mut sender, request).await
    }

    /// Sends CONNECT; returns the open way, or the answer with which the proxy refuses.
    pub(super) async fn tunnel(&self, to: &Authority) -> anyhow::Result<Result<OpenTunnel, Answer>> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(Method::CONNECT).uri(to.to_string()).header(HOST, to.to_string());
        if let Some(authorization) = &self.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let response = tokio::time::timeout(ANSWER, sender.send_request(request.body(Body::empty())?)).await??;
        if response.status() == StatusCode::OK {
            let said = response.headers().get("cache-status").and_then(|value| value.to_str().ok());
            let is_uncovered = said.is_some_and(|said| said.contains("detail=uncovered"));
            return Ok(Ok(OpenTunnel { stream: hyper::upgrade::on(response).await?, is_uncovered }));
        }
        let (parts, body) = response.into_parts();
        let body = collect_within(Body::wrap(body), LIMIT, ANSWER).await.unwrap_or_default();
        Ok(Err(Answer { status: parts.status, headers: parts.headers, body }))
    }

    /// Starts TLS inside a tunnel.
    pub(super) async fn secure(&self, tunnel: OpenTunnel, to: &Authority) -> Result<Secured, Distrust> {
        let Some(verifier) = &self.verifier else {
            let cause = anyhow::anyhow!("this machine trusts no CA at all");
            return Err(Distrust { cause, issuer: None });
        };
        let presented = Arc::new(RememberingVerifier::new(verifier.clone()));
        let secured = self.handshake(tunnel, to, presented.clone()).await;
        let issuer = presented.issuer();
        match secured {
            Ok(sender) => Ok(Secured { sender, issuer: issuer.unwrap_or_default() }),
            Err(cause) => Err(Distrust { cause, issuer }),
        }
    }

    async fn handshake(
        &self,
        tunnel: OpenTunnel,
        to: &Authority,
        presented: Arc<RememberingVerifier>,
    ) -> anyhow::Result<SendRequest<Body>> {
        let builder =
            ClientConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let tls = builder.dangerous().with_custom_certificate_verifier(presented).with_no_client_auth();
        let name = ServerName::try_from(to.host.to_string())?;
        let handshake = TlsConnector::from(Arc::new(tls)).connect(name, TokioIo::new(tunnel.stream));
        let stream = tokio::time::timeout(ANSWER, handshake)
            .await
            .with_context(|| format!("no handshake within {} s", ANSWER.as_secs()))??;
        speak(stream).await
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<SendRequest<Body>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends one request and reads its complete answer.
pub(super) async fn ask(sender: &mut SendRequest<Body>, mut request: Request<Body>) -> anyhow::Result<Answer> {
    let agent = concat!("pullthrough-doctor/", env!("CARGO_PKG_VERSION"));
    request.headers_mut().insert(USER_AGENT, http::HeaderValue::from_static(agent));
    let response = tokio::time::timeout(ANSWER, sender.send_request(request))
        .await
        .with_context(|| format!("no answer within {} s", ANSWER.as_secs()))??;
    let (parts, body) = response.into_parts();
    let body = collect_within(Body::wrap(body), LIMIT, ANSWER).await.context("the answer was cut off")?;
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_percent_signs_are_undone() {
        for (text, expected) in [("ci:p%40ss", "ci:p@ss"), ("a%2", "a%2"), ("%zz", "%zz"), ("", "")] {
            assert_eq!(percent_decoded(text), expected.as_bytes());
        }
    }
}
