//! Writes one log line for each request and each CONNECT.
//!
//! A line holds names and numbers only: no header, query or token can get into it.

use std::fmt::{self, Display, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use tracing::info;

use crate::host::RequestId;
use crate::oci::{Reference, Repository};

/// The tracing targets of the lines, by which `log.access` turns them off: pulls, and what clients do besides.
pub(super) const TARGET: &str = "access";
pub(super) const BESIDES: &str = "access::besides";

/// A client's name for itself is cut after so many bytes.
const AGENT_LENGTH: usize = 64;

/// The fields of a line. Absent values are left out.
#[derive(Clone, Debug)]
pub struct AccessLine {
    /// The address of the client. IPv4 mapped into IPv6 is written as IPv4.
    pub client: IpAddr,
    /// The user of `clients.htpasswd` that the client has proven to be.
    pub user: Option<Arc<str>>,
    /// The client's `User-Agent`, of which the first product is written.
    pub agent: Option<HeaderValue>,
    /// The listener that the request came to.
    pub door: &'static str,
    /// The request's method.
    pub method: Method,
    /// The host, with its port unless that is the default of the scheme.
    pub host: Arc<str>,
    /// The registry's configured name.
    pub registry: Option<Arc<str>>,
    /// The repository.
    pub repository: Option<Repository>,
    /// The tag or digest.
    pub reference: Option<Reference>,
    /// The path, of a page of the proxy's own.
    pub path: Option<Box<str>>,
    /// The kind of request: the label of a [`Kind`](super::Kind), or a word such as `connect`.
    pub kind: &'static str,
    /// The origin of the answer: the label of an [`Outcome`](super::Outcome), or a verdict.
    pub outcome: &'static str,
    /// The status sent to the client.
    pub status: u16,
    /// The bytes of the body sent to the client.
    pub bytes: u64,
    /// The time from the first byte of the request to the last of the answer.
    pub elapsed: Duration,
    /// What was asked of an upstream for it, if anything was.
    pub upstream: Option<UpstreamAnswer>,
    /// The request's id, which the warnings about it bear too.
    pub request_id: RequestId,
    /// The reason in a few words: of each error, and of what else needs one.
    pub detail: Option<String>,
}

/// How an upstream answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAnswer {
    /// The host that was asked, or that a redirect led to.
    pub host: String,
    /// The status; `None` if there was no answer.
    pub status: Option<u16>,
    /// The time to the head of the answer, or to the failure.
    pub elapsed: Duration,
}

/// Writes the fields. Each target needs a callsite of its own.
macro_rules! emit {
    ($line:expr, $target:expr) => {{
        let line: &AccessLine = $line;
        let upstream = line.upstream.as_ref();
        info!(
            target: $target,
            parent: None, // the line says all by itself
            client = Short::of(&line.client.to_canonical()).as_str(),
            user = line.user.as_deref(),
            agent = line.agent.as_ref().and_then(product),
            door = line.door,
            method = line.method.as_str(),
            host = &*line.host,
            registry = line.registry.as_deref(),
            repository = line.repository.as_ref().map(Repository::as_str),
            reference = line.reference.as_ref().map(Short::of).as_ref().map(Short::as_str),
            path = line.path.as_deref(),
            kind = line.kind,
            outcome = line.outcome,
            status = line.status,
            bytes = line.bytes,
            ms = milliseconds(line.elapsed),
            upstream_host = upstream.map(|upstream| upstream.host.as_str()),
            upstream_status = upstream.and_then(|upstream| upstream.status),
            upstream_ms = upstream.map(|upstream| milliseconds(upstream.elapsed)),
            request_id = Short::of(&line.request_id).as_str(),
            detail = line.detail.as_deref(),
            "access"
        );
    }};
}

impl AccessLine {
    /// Writes the line as one event of the target `access`.
    pub fn emit(&self) {
        if matches!(self.kind, "connect" | "ping" | "token") {
            emit!(self, BESIDES);
        } else {
            emit!(self, TARGET);
        }
    }
}

/// The first product of a `User-Agent`, with its version (RFC 9110, 10.1.5). A client chooses it: anything but a product
/// in printable ASCII is left out.
fn product(agent: &HeaderValue) -> Option<&str> {
    let first = agent.to_str().ok()?.split([' ', '\t', '(']).next()?;
    Some(&first[..first.len().min(AGENT_LENGTH)]).filter(|product| !product.is_empty())
}

/// A short text without an allocation: an address, a tag or a digest. None is longer than this.
struct Short {
    bytes: [u8; 144],
    length: usize,
}

impl Short {
    fn of(value: &impl Display) -> Self {
        let mut text = Self { bytes: [0; 144], length: 0 };
        let _ = write!(text, "{value}"); // the rest is cut
        text
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Milliseconds, rounded to three decimal places.
fn milliseconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Digest, Tag};

    #[test]
    fn the_longest_address_tag_and_digest_are_short_enough() {
        let address: IpAddr = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
        assert_eq!(Short::of(&address).as_str(), address.to_string());
        let tag: Tag = "t".repeat(128).parse().unwrap();
        let digest = Digest::of(Algorithm::Sha512, b"long");
        for reference in [Reference::Tag(tag), Reference::Digest(digest)] {
            assert_eq!(Short::of(&reference).as_str(), reference.to_string());
        }
    }

    #[test]
    fn a_client_is_named_by_its_first_product() {
        let long = format!("{}/1", "a".repeat(100));
        let table = [
            ("docker/27.5.1 go/go1.22 git-commit/4c9b3b0 kernel/6.1 os/linux arch/amd64", Some("docker/27.5.1")),
            ("containerd/v2.0.0", Some("containerd/v2.0.0")),
            ("Buildah", Some("Buildah")),
            ("tool(comment)", Some("tool")),
            ("(comment)", None),
            ("", None),
            (long.as_str(), Some(&long[..AGENT_LENGTH])),
        ];
        for (agent, expected) in table {
            assert_eq!(product(&HeaderValue::from_str(agent).unwrap()), expected, "{agent}");
        }
        assert_eq!(product(&HeaderValue::from_bytes(b"gr\xc3\xbcn/1").unwrap()), None);
    }
}
