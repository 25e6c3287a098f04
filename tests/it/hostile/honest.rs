//! One request as a server reads it, and the answer of an honest registry.

use pullthrough::oci::Digest;
use serde_json::json;

use super::things::{REPOSITORY, Things};
use crate::support::{INDEX, MANIFEST, basic_value};

/// The one who may read what is private.
pub(super) fn owner() -> String {
    basic_value("owner", "secret")
}

/// A request.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    /// Without its query.
    pub(super) path: String,
    pub(super) host: String,
    pub(super) agent: String,
    pub(super) range: Option<String>,
    pub(super) authorization: Option<String>,
}

/// An answer that is framed as it should be.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// From where to where (inclusive, as far as it says).
    pub(super) fn span(&self) -> Option<(usize, Option<usize>)> {
        let (from, to) = self.range.as_deref()?.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()))
    }
}

impl Answer {
    pub(super) fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let typed = (!media_type.is_empty()).then(|| ("content-type".to_owned(), media_type.to_owned()));
        Self { status, headers: typed.into_iter().collect(), body: body.into() }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// Status line and fields, but for the length; each ends with a line's end.
    pub(super) fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Said\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// The whole message.
    pub(super) fn message(&self, asked: &Asked) -> Vec<u8> {
        let length = match self.status {
            204 | 304 => String::new(),
            _ => format!("content-length: {}\r\n", self.body.len()),
        };
        let mut message = format!("{}{length}\r\n", self.head()).into_bytes();
        if !asked.is_head() {
            message.extend_from_slice(&self.body);
        }
        message
    }

    /// The registry's error, with a body as the distribution-spec has it.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": "said by the registry"}]});
        Self::new(status, "application/json", body.to_string())
    }
}

/// What a registry answers that wants no credentials.
pub(super) fn public(things: &Things, asked: &Asked) -> Answer {
    let inside = asked.path.strip_prefix("/v2/").unwrap_or_default();
    if asked.path == "/v2/" {
        return Answer::new(200, "application/json", "{}").with("docker-distribution-api-version", "registry/2.0");
    }
    if asked.path == "/token" {
        return Answer::new(200, "application/json", json!({"token": "t", "expires_in": 300}).to_string());
    }
    let rest = inside.strip_prefix(REPOSITORY).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    let (noun, reference) = rest.split_once('/').unwrap_or_default();
    match (asked.method.as_str(), noun) {
        ("GET" | "HEAD", "tags") => {
            Answer::new(200, "application/json", json!({"name": REPOSITORY, "tags": ["kept", "new"]}).to_string())
        }
        ("GET" | "HEAD", "referrers") => {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
            Answer::new(200, INDEX, index.to_string())
        }
        ("GET" | "HEAD", _) => content(things, asked, noun, reference),
        ("PUT", "manifests") => Answer::new(201, "", "")
            .with("location", format!("/v2/{REPOSITORY}/manifests/{reference}"))
            .with("docker-content-digest", things.manifest.digest.to_string()),
        ("POST", "blobs") => {
            Answer::new(202, "", "").with("location", format!("/v2/{REPOSITORY}/blobs/uploads/1")).with("range", "0-0")
        }
        _ => Answer::error(404, "NAME_UNKNOWN"),
    }
}

fn content(things: &Things, asked: &Asked, noun: &str, reference: &str) -> Answer {
    let Some(thing) = things.find(noun, reference) else {
        return Answer::error(404, if noun == "blobs" { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" });
    };
    let media_type = if noun == "manifests" { MANIFEST } else { "application/octet-stream" };
    let whole = Answer::new(200, media_type, thing.bytes.clone())
        .with("docker-content-digest", thing.digest.to_string())
        .with("accept-ranges", "bytes");
    match asked.span().filter(|_| noun == "blobs") {
        Some((from, to)) => part(whole, from, to),
        None => whole,
    }
}

/// The part of a whole answer.
pub(super) fn part(whole: Answer, from: usize, to: Option<usize>) -> Answer {
    let total = whole.body.len();
    let end = to.map_or(total, |to| to + 1).min(total);
    if from >= end {
        return Answer::error(416, "RANGE_INVALID").with("content-range", format!("bytes */{total}"));
    }
    let body = whole.body[from..end].to_vec();
    Answer { status: 206, body, ..whole }.with("content-range", format!("bytes {from}-{}/{total}", end - 1))
}

/// What a registry answers where everything is its owner's.
pub(super) fn private(things: &Things, asked: &Asked) -> Answer {
    if asked.authorization.as_deref() == Some(owner().as_str()) { public(things, asked) } else { closed() }
}

/// What it answers to whom it lets read nothing.
pub(super) fn closed() -> Answer {
    Answer::error(401, "UNAUTHORIZED").with("www-authenticate", "Basic realm=\"lab\"")
}

/// Whether an answer with a digest has the content of that digest.
pub(super) fn is_of_digest(body: &[u8], digest: &str) -> bool {
    digest.parse::<Digest>().is_ok_and(|digest| Digest::of(digest.algorithm(), body) == digest)
}
