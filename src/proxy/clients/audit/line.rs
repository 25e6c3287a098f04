//! Formats one line of the audit log as JSON: a manifest that was pulled, or a request that was refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::Method;
use serde_json::json;

use crate::oci::{Digest, Reference, Repository};

/// The outcome of one request. Unknown values are left out of the line.
#[derive(Clone, Debug)]
pub struct AuditLine {
    /// When.
    pub time: SystemTime,
    /// The client's address.
    pub client: IpAddr,
    /// Its user of `clients.htpasswd`.
    pub user: Option<Arc<str>>,
    /// The registry's configured name.
    pub registry: Option<Arc<str>>,
    /// The host that a refused request was for, where that is no registry's.
    pub host: Option<String>,
    /// The request's method, if it could be read.
    pub method: Option<Method>,
    /// The repository.
    pub repository: Option<Repository>,
    /// The tag or digest that it asked for.
    pub reference: Option<Reference>,
    /// The path of a request that was refused, as it came, up to [`AuditLine::PATH_LIMIT`] characters.
    pub path: Option<String>,
    /// The digest of the content that it got.
    pub digest: Option<Digest>,
    /// The rule of `clients.rules` that spoke.
    pub rule: Option<Arc<str>>,
    /// Why it was refused, as the client was told; up to [`AuditLine::PATH_LIMIT`] characters.
    pub reason: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The answer's status.
    pub status: u16,
}

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was served.
    Pulled,
    /// The proxy refused it: by a rule, as a push, or for its form.
    Refused,
    /// The registry refused it: 401 or 403.
    Denied,
    /// It is not there.
    Missing,
    /// It could not be had.
    Failed,
}

impl AuditOutcome {
    /// The word in the line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pulled => "pulled",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

impl AuditLine {
    /// At most so many characters of a refused path are written.
    pub const PATH_LIMIT: usize = 256;

    /// A line with the values that every line has.
    #[must_use]
    pub fn new(client: IpAddr, outcome: AuditOutcome, status: u16) -> Self {
        Self {
            time: SystemTime::now(),
            client,
            user: None,
            registry: None,
            host: None,
            method: None,
            repository: None,
            reference: None,
            path: None,
            digest: None,
            rule: None,
            reason: None,
            outcome,
            status,
        }
    }

    /// As much of a text that came from outside as is written down.
    #[must_use]
    pub fn cut(text: &str) -> String {
        text.chars().take(Self::PATH_LIMIT).collect()
    }

    /// The line, without its newline. What is not known is left out.
    pub(crate) fn json(&self) -> String {
        let mut line = json!({
            "time": time(self.time),
            "client": self.client.to_canonical().to_string(),
            "outcome": self.outcome.as_str(),
            "status": self.status,
        });
        let digest = self.digest.map(|digest| digest.to_string());
        let reference = self.reference.as_ref().map(ToString::to_string);
        let others = [
            ("user", self.user.as_deref()),
            ("registry", self.registry.as_deref()),
            ("host", self.host.as_deref()),
            ("method", self.method.as_ref().map(Method::as_str)),
            ("repository", self.repository.as_ref().map(Repository::as_str)),
            ("reference", reference.as_deref()),
            ("path", self.path.as_deref()),
            ("digest", digest.as_deref()),
            ("rule", self.rule.as_deref()),
            ("reason", self.reason.as_deref()),
        ];
        for (key, value) in others {
            if let Some(value) = value {
                line[key] = value.into();
            }
        }
        line.to_string()
    }
}

pub(crate) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn line(repository: &str) -> AuditLine {
        AuditLine {
            time: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_800_000_000_123),
            user: Some("ci \"x\"\n".into()),
            registry: Some("docker.io".into()),
            method: Some(Method::GET),
            repository: Some(repository.parse().unwrap()),
            reference: Some("3.20".parse().unwrap()),
            rule: Some("office".into()),
            ..AuditLine::new("::ffff:192.0.2.7".parse().unwrap(), AuditOutcome::Pulled, 200)
        }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        let text = line("library/alpine").json();
        assert!(!text.contains('\n'));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "time": "2027-01-15T08:00:00.123Z", "client": "192.0.2.7", "user": "ci \"x\"\n", "registry": "docker.io", "method": "GET",
            "repository": "library/alpine", "reference": "3.20", "rule": "office", "outcome": "pulled", "status": 200,
        });
        assert_eq!(parsed, expected);
    }
}
