//! Connects, sends one request, and reads its complete answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, Request, StatusCode};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::oci::Authority;
use crate::wire::{Body, collect_within};

/// A registry may be slow; a proxy on the same network is not.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
pub(super) const LIMIT: usize = 4 << 20;
/// An answer's words beyond this are no message.
const WORDS: usize = 2000;

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

    /// What its body says, for people: the messages of a registry's error, else the first line.
    pub(super) fn words(&self) -> String {
        let json: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let errors = json.as_ref().and_then(|json| json.get("errors")?.as_array());
        let told = |error: &serde_json::Value| {
            let said = |key| error.get(key).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
            said("message").or_else(|| said("code")).map(str::to_owned)
        };
        let messages: Vec<String> = errors.into_iter().flatten().filter_map(told).collect();
        let text = if messages.is_empty() {
            String::from_utf8_lossy(&self.body).lines().next().unwrap_or_default().to_owned()
        } else {
            messages.join("; ")
        };
        shortened(&text)
    }

    /// How many seconds to wait, where it says so.
    pub(super) fn wait(&self) -> Option<u64> {
        self.header("retry-after")?.trim().parse().ok()
    }

    /// Whether the proxy gives it of its own, and passes on no answer of a registry.
    pub(super) fn is_of_the_proxy(&self) -> bool {
        self.header("proxy-status").is_some_and(|status| status.contains("error="))
    }
}

/// Ends a text that is too long behind a word, and says so.
fn shortened(text: &str) -> String {
    let Some((limit, _)) = text.char_indices().nth(WORDS) else { return text.to_owned() };
    let end = text[..limit].rfind(' ').unwrap_or(limit);
    format!("{} ... ({} bytes more)", &text[..end], text.len() - end)
}

/// Resolves a host's name.
pub(super) async fn resolve(to: &Authority) -> anyhow::Result<Vec<SocketAddr>> {
    let host = to.host.to_string();
    let host = host.trim_matches(['[', ']']);
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, to.port)).await?.collect();
    if found.is_empty() { bail!("the name has no addresses") } else { Ok(found) }
}

/// Connects to a host.
pub(super) async fn connect(to: &Authority) -> anyhow::Result<TcpStream> {
    let addresses = resolve(to).await?;
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&addresses[..])).await;
    Ok(connected.with_context(|| format!("no answer within {} s", CONNECT.as_secs()))??)
}

pub(super) async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<SendRequest<Body>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn a_message_is_told_to_its_end() {
        let long = "word ".repeat(150);
        let body =
            serde_json::json!({"errors": [{"code": "DENIED", "message": long}, {"code": "UNKNOWN"}]}).to_string();
        assert_eq!(answer(&body).words(), format!("{long}; UNKNOWN"));
        assert_eq!(answer("first\nsecond").words(), "first");
        let cut = answer(&"word ".repeat(1000)).words();
        assert!(cut.starts_with("word word") && cut.contains("word ... ("), "{cut}");
    }
}
