//! Writes one log line for each request and each CONNECT.
//!
//! A line holds names and numbers only: no header, query or token can get into it.

use std::fmt::{self, Display, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tracing::info;

use crate::host::RequestId;
use crate::oci::{Reference, Repository};

/// The tracing target of the lines, by which `log.access` turns them off.
pub(super) const TARGET: &str = "access";

/// The fields of a line. Absent values are left out.
#[derive(Clone, Debug)]
pub struct AccessLine {
    /// The address of the client. IPv4 mapped into IPv6 is written as IPv4.
    pub client: IpAddr,
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
    /// The request's id, which the warnings about it bear too.
    pub request_id: RequestId,
    /// The reason in a few words, if there is one.
    pub detail: Option<String>,
}

impl AccessLine {
    /// Writes the line as one event of the target `access`.
    pub fn emit(&self) {
        info!(
            target: TARGET,
            parent: None, // the line says all by itself
            client = Short::of(&self.client.to_canonical()).as_str(),
            method = self.method.as_str(),
            host = &*self.host,
            registry = self.registry.as_deref(),
            repository = self.repository.as_ref().map(Repository::as_str),
            reference = self.reference.as_ref().map(Short::of).as_ref().map(Short::as_str),
            path = self.path.as_deref(),
            kind = self.kind,
            outcome = self.outcome,
            status = self.status,
            bytes = self.bytes,
            ms = milliseconds(self.elapsed),
            request_id = Short::of(&self.request_id).as_str(),
            detail = self.detail.as_deref(),
            "access"
        );
    }
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
}
