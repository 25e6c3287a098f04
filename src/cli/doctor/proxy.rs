//! Connects as a container daemon does: to the proxy, through it by CONNECT, with the system's trusted CAs.

use std::net::SocketAddr;

use anyhow::bail;
use base64::Engine as _;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::talk::{self, ANSWER, Answer, LIMIT, ask, speak};
use super::trust::{Distrust, PeerTrust, Secured};
use crate::oci::Authority;
use crate::setup::ProxyUrl;
use crate::wire::{Body, collect_within};

/// A client of the proxy.
pub(super) struct ProxyClient {
    pub(super) proxy: Authority,
    authorization: Option<String>,
    trust: PeerTrust,
}

/// An open way through the proxy to a host.
pub(super) struct OpenTunnel {
    stream: Upgraded,
    /// Whether the host is a registry that the proxy's CA does not cover, so that nothing is taken off.
    pub(super) is_uncovered: bool,
}

impl ProxyClient {
    /// Uses the proxy at `url`; trusts the system's roots and those in `ca`.
    pub(super) fn new(url: &ProxyUrl, ca: Option<&std::path::Path>) -> anyhow::Result<Self> {
        let Some(rest) = url.as_str().strip_prefix("http://") else {
            bail!("only http:// proxies can be tested");
        };
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let encode = |user| base64::engine::general_purpose::STANDARD.encode(percent_decoded(user));
        Ok(Self {
            proxy: Authority::parse(host, 80)?,
            authorization: user.map(|user| format!("Basic {}", encode(user))),
            trust: PeerTrust::new(ca)?,
        })
    }

    /// Resolves the name of the proxy.
    pub(super) async fn resolve(&self) -> anyhow::Result<Vec<SocketAddr>> {
        talk::resolve(&self.proxy).await
    }

    /// Connects to the proxy.
    async fn connect(&self) -> anyhow::Result<TcpStream> {
        talk::connect(&self.proxy).await
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
        self.trust.secure(tunnel.stream, to).await
    }
}

pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
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
