//! What came of one cell, as the tables say it.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http_body_util::BodyExt;

use super::honest::{Answer, is_of_digest};
use crate::support::client::Session;
use pullthrough::wire::Body;

/// More than any honest answer has: whoever reads so much has had enough.
const ENOUGH: usize = 8 << 20;
/// A client is answered within 25 s in any case; the rest is for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// An answer as a client saw it.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) end: End,
}

/// How an answer's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    Broken,
    /// The client had read enough, and left.
    Endless,
    /// The client has waited in vain.
    Never,
}

/// One request over a connection of its own. An answer that never comes has no status, nor has one that was broken off
/// before its head.
pub(super) async fn ask(
    mut session: Session,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Got {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = if body.is_empty() { Body::empty() } else { Body::full(body) };
    let asked = async {
        let Ok(answer) = session.send(method, path, &headers, body).await else { return Got::none(End::Broken) };
        let (head, mut body) = answer.into_parts();
        let mut read = Vec::new();
        let end = loop {
            match body.frame().await {
                None => break End::Whole,
                Some(Err(_)) => break End::Broken,
                Some(Ok(_)) if read.len() > ENOUGH => {
                    read = Vec::new();
                    break End::Endless;
                }
                Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().unwrap_or(&bytes::Bytes::new())),
            }
        };
        Got { status: head.status.as_u16(), headers: head.headers, body: read, end }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Got::none(End::Never))
}

impl Got {
    fn none(end: End) -> Self {
        Self { status: 0, headers: HeaderMap::new(), body: Vec::new(), end }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// What the client gets: status, where it comes from or what is wrong, and whether it is what was asked for. Of an
    /// answer that breaks off the head may be lost, too, as chance has it: so that is all that is said.
    pub(super) fn word(&self, honest: &Answer, is_head: bool) -> String {
        if self.end == End::Broken && self.status < 400 {
            return "broken".to_owned();
        }
        let mut words = vec![self.status.to_string()];
        let proxys = self.header("proxy-status").split("error=").nth(1).and_then(|rest| rest.split(';').next());
        words.extend(proxys.map(str::to_owned));
        if (200..400).contains(&self.status) {
            words.extend(self.source().map(str::to_owned));
            if !is_head && self.end == End::Whole && self.body != honest.body {
                words.push("other".to_owned());
            }
        }
        match self.end {
            End::Whole => {}
            End::Broken => words.push("broken".to_owned()),
            End::Endless => words.push("endless".to_owned()),
            End::Never => words.push("never".to_owned()),
        }
        words.join(" ")
    }

    fn source(&self) -> Option<&'static str> {
        let said = self.header("cache-status");
        let known = ["stale-if-error", "fwd=stale", "collapsed", "stored", "bypass", "fwd=uri-miss", "hit"];
        let word = known.into_iter().find(|word| said.contains(word))?;
        Some(match word {
            "stale-if-error" => "stale",
            "fwd=stale" => "revalidated",
            "fwd=uri-miss" => "miss",
            word => word,
        })
    }

    /// A complete answer to a question for content that names its content has that content.
    pub(super) fn check(&self, method: &str, path: &str, how: &str) {
        let digest = self.header("docker-content-digest");
        let is_content = method == "GET" && (path.contains("/manifests/") || path.contains("/blobs/"));
        if self.status == 200 && self.end == End::Whole && is_content && !digest.is_empty() {
            assert!(is_of_digest(&self.body, digest), "{how}: {} bytes that are not {digest}", self.body.len());
        }
    }
}

/// A cell's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) got: String,
    pub(super) stored: usize,
    pub(super) noted: String,
    /// What a stranger is served afterwards.
    pub(super) after: &'static str,
    pub(super) asked: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { got, stored, noted, after, asked } = self;
        write!(f, "{got} | stored {stored} | noted {noted} | {after} | asked {asked}")
    }
}
