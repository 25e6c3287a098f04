//! Fetches an image's manifest, configuration and layers through the proxy, and says what the cache made of each.

use std::time::Duration;

use http::{Method, StatusCode};

use super::image::{self, Question};
use super::proxy::ProxyClient;
use super::report::{Found, Problem};
use super::talk::Answer;
use super::verdict::{LOG, refused};
use crate::oci::{Authority, Descriptor, Digest, Reference, Repository};

/// How often, and after which pause, it is asked whether the cache has kept something.
const KEPT: usize = 8;
const PAUSE: Duration = Duration::from_millis(250);
pub(super) const AWAY: &str = "the proxy's log and pullthrough why IMAGE on its machine name the host and the reason; what is cached \
                    can be pulled meanwhile";

/// A pull of one image.
pub(super) struct ImagePull<'a> {
    pub(super) proxy: &'a ProxyClient,
    pub(super) to: &'a Authority,
    pub(super) repository: Repository,
    pub(super) token: Option<String>,
}

impl ImagePull<'_> {
    pub(super) async fn manifest(&self, reference: &Reference) -> Result<(Answer, Found), Problem> {
        let (answer, by) = self.ask(&Method::GET, &format!("manifests/{reference}"), false).await?;
        if answer.status != StatusCode::OK {
            return Err(refused(&answer, &by));
        }
        let digest = answer.header("docker-content-digest").unwrap_or("no digest");
        let words = format!("{digest}; {}", answer.header("cache-status").unwrap_or("not through the cache"));
        if says_stored(&answer) && !self.is_kept(&format!("manifests/{digest}")).await {
            let found = Found::Doubtful(not_kept(digest));
            return Ok((answer, found));
        }
        let found = if is_away(&answer) {
            let words = format!("{words}: the registry is unreachable, and this is its last known answer");
            Found::Doubtful(Problem::new(words, AWAY))
        } else {
            Found::Well(words)
        };
        Ok((answer, found))
    }

    /// Fetches the image's configuration, which clients fetch first.
    pub(super) async fn config(&self, config: &Descriptor) -> Result<((), Found), Problem> {
        let digest = &config.digest;
        let (answer, by) = self.ask(&Method::GET, &format!("blobs/{digest}"), false).await?;
        if answer.status != StatusCode::OK {
            return Err(refused(&answer, &by));
        }
        if Digest::of(digest.algorithm(), &answer.body) != *digest {
            return Err(Problem::new(format!("{by} delivers other bytes than those of {digest}"), LOG));
        }
        if says_stored(&answer) && !self.is_kept(&format!("blobs/{digest}")).await {
            return Ok(((), Found::Doubtful(not_kept(&digest.to_string()))));
        }
        Ok(((), Found::Well(format!("{digest}, from {}", source(&answer, &by)))))
    }

    /// Asks for each layer by HEAD, which downloads nothing, and for its first byte where that is refused.
    pub(super) async fn layers(&self, layers: &[Descriptor]) -> Result<((), Found), Problem> {
        let mut last = String::new();
        for (number, layer) in layers.iter().enumerate() {
            let path = format!("blobs/{}", layer.digest);
            let asked = self.ask(&Method::HEAD, &path, false).await;
            let (answer, by) = match asked {
                Ok((answer, by)) if answer.status == StatusCode::OK => (answer, by),
                _ => self.ask(&Method::GET, &path, true).await?,
            };
            if !answer.status.is_success() {
                let Problem { words, fix } = refused(&answer, &by);
                let (digest, of) = (&layer.digest, layers.len());
                return Err(Problem::new(format!("{digest}, number {} of {of}: {words}", number + 1), fix));
            }
            last = source(&answer, &by);
        }
        let words = match layers.len() {
            0 => "none".to_owned(),
            count => format!("{count} can be had; the last one is from {last}"),
        };
        Ok(((), Found::Well(words)))
    }

    /// Whether it can be had from the cache now; a commit may take a moment.
    async fn is_kept(&self, path: &str) -> bool {
        for _ in 0..KEPT {
            let asked = self.ask(&Method::HEAD, path, false).await;
            if asked.is_ok_and(|(answer, _)| answer.header("cache-status").is_some_and(|said| said.contains("hit"))) {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    async fn ask(&self, method: &Method, path: &str, is_first_byte: bool) -> Result<(Answer, Authority), Problem> {
        let path = format!("/v2/{}/{path}", self.repository);
        let question = Question { method: method.clone(), is_first_byte, ..Question::get(path, self.token.as_deref()) };
        let asked = image::follow(self.proxy, self.to, question).await;
        asked.map_err(|error| Problem::new(format!("{error:#}"), LOG))
    }
}

/// What an answer announced is no promise: the disk may have refused it since.
fn says_stored(answer: &Answer) -> bool {
    answer.header("cache-status").is_some_and(|status| status.contains("stored"))
}

fn not_kept(digest: &str) -> Problem {
    Problem::new(
        format!("{digest} was passed on, but is not in the cache afterwards"),
        "the cache cannot keep it: look at the step proxy above, at the proxy's log, and at the space on its disk",
    )
}

/// Who has delivered it, and what the cache says of it.
fn source(answer: &Answer, by: &Authority) -> String {
    format!("{by}; {}", answer.header("cache-status").unwrap_or("not through the cache"))
}

/// The manifest for this machine's platform, else the first one.
pub(super) fn choose(listed: &[Descriptor]) -> (&str, Digest) {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let ours = format!("linux/{architecture}");
    let is_ours = |entry: &&Descriptor| entry.platform.as_deref().is_some_and(|platform| platform.starts_with(&ours));
    let entry = listed.iter().find(is_ours).or(listed.iter().find(|entry| entry.platform.is_some()));
    entry.map_or(("none", listed[0].digest), |entry| (entry.platform.as_deref().unwrap_or_default(), entry.digest))
}

/// Whether the proxy says that it answers for a registry that it cannot reach (`Warning`).
pub(super) fn is_away(answer: &Answer) -> bool {
    answer.header("warning").is_some_and(|words| words.starts_with("299 "))
}
