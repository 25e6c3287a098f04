//! A pull: the cache's findings and the registry's answers become a response. Here cache and upstream meet.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, RANGE};
use http::{Method, Response, StatusCode};

use super::ask::{Ask, Credentials, Thing};
use super::connection::Proxy;
use super::content::{self, Content};
use super::registry::Registry;
use super::respond::{self, Failure};
use crate::cache::{
    self, Asking, BlobFound, Fault, Freshness, Guest, ManifestFound, Passing, Place, Question, Said, Source, TagFound,
    Want,
};
use crate::oci::{Accept, Authority, Digest, Reference, Repository, Tag};
use crate::store;
use crate::telemetry::{Kind, Outcome};
use crate::upstream::Upstream;
use crate::wire::Body;

/// A client has its headers within this time in any case: containerd gives up after 30 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);
/// How long a reader waits for the end of a fill whose length nobody said.
const SOON: Duration = Duration::from_secs(5);
/// How long a registry that is known to be ill may take to revalidate a tag.
pub(super) const ILL_DEADLINE: Duration = Duration::from_secs(1);
const LAYER_TYPE: &str = "application/octet-stream";

/// One GET or HEAD for content.
pub(super) struct Pull {
    pub(super) proxy: Arc<Proxy>,
    pub(super) upstream: Upstream,
    pub(super) registry: Arc<Registry>,
    pub(super) authority: Authority,
    pub(super) repository: Repository,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) client: IpAddr,
}

/// A response, and where it came from.
pub(super) struct Pulled {
    pub(super) response: Response<Body>,
    pub(super) outcome: Outcome,
    pub(super) stored: bool,
    pub(super) age: Option<Duration>,
}

impl Pulled {
    pub(super) fn bypass(response: Response<Body>) -> Self {
        Self { response, outcome: Outcome::Bypass, stored: false, age: None }
    }

    fn fault(fault: &Fault, kind: Kind) -> Self {
        Self { response: respond::fault(fault, kind), outcome: Outcome::Miss, stored: false, age: None }
    }

    pub(super) fn failure(failure: &Failure) -> Self {
        Self { response: failure.respond(), outcome: Outcome::Miss, stored: false, age: None }
    }
}

impl Pull {
    /// A blob by digest.
    pub(super) async fn blob(&self, digest: Digest) -> Pulled {
        let (caller, ask) = self.parts(Thing::Blob(digest));
        if self.method == Method::HEAD {
            return match self.proxy.cache.blob_head(&caller, &digest).await {
                Ok((length, outcome)) => {
                    let mut response = Response::new(Body::empty());
                    content::describe(response.headers_mut(), &digest, LAYER_TYPE, length);
                    Pulled { response, outcome, stored: false, age: None }
                }
                Err(fault) => Pulled::fault(&fault, Kind::Blob),
            };
        }
        let pulled = self.blob_for(&caller, digest, &ask).await;
        if self.headers.contains_key(RANGE) {
            self.proxy.cache.wants_pieces(&caller, &digest);
        } else if pulled.response.status() == StatusCode::OK && pulled.outcome != Outcome::Bypass {
            let source_of = move |digest| Arc::new(ask.for_blob(digest)) as Arc<dyn Source>;
            self.proxy.cache.prefetch(&caller, &digest, self.registry.prefetch(), source_of);
        }
        pulled
    }

    async fn blob_for(&self, caller: &cache::Caller, digest: Digest, ask: &Ask) -> Pulled {
        let mut again = true;
        loop {
            match self.proxy.cache.blob(caller, &digest).await {
                Err(fault) if is_of_the_store(&fault) => return self.pass_blob(digest, ask).await,
                Err(fault) => return Pulled::fault(&fault, Kind::Blob),
                Ok(BlobFound::Stored(blob, outcome)) => {
                    return self.content(digest, LAYER_TYPE, &Content::Stored(blob), outcome);
                }
                Ok(BlobFound::Filling(fill, outcome)) => match self.filling(digest, fill, outcome).await {
                    Ok(pulled) => return pulled,
                    Err(fault) if is_of_the_store(&fault) => return self.pass_blob(digest, ask).await,
                    // What broke the fill may be another caller's refusal: this one's own source is asked then.
                    Err(_) if again && outcome == Outcome::Collapsed => again = false,
                    Err(fault) => return Pulled::fault(&fault, Kind::Blob),
                },
                Ok(BlobFound::Unstorable(error)) => {
                    tracing::error!(%digest, %error, "the cache cannot take this blob; it is passed on without being kept");
                    return self.pass_blob(digest, ask).await;
                }
            }
        }
    }

    async fn filling(&self, digest: Digest, fill: Guest, outcome: Outcome) -> Result<Pulled, Fault> {
        let mut length = fill.length().await?;
        if length.is_none() {
            // The upstream does not say how long it is. What comes soon gets a length all the same.
            length = match tokio::time::timeout(SOON, fill.verified()).await {
                Ok(verified) => Some(verified?),
                Err(_) => None,
            };
        }
        if let Some(total) = length {
            let pulled = self.content(digest, LAYER_TYPE, &Content::Filling(fill, total), outcome);
            return Ok(Pulled { stored: true, ..pulled });
        }
        let mut response = Response::new(Body::wrap(fill.follow(None)));
        content::describe(response.headers_mut(), &digest, LAYER_TYPE, None);
        Ok(Pulled { response, outcome, stored: true, age: None })
    }

    /// The blob past the store: a whole verified on its way, one part as it comes, several parts as the whole.
    async fn pass_blob(&self, digest: Digest, ask: &Ask) -> Pulled {
        let part = content::one_part(&self.headers, &digest);
        let want = part.map_or_else(Want::default, |(from, to)| Want { from, to, ..Want::default() });
        match ask.open(want).await {
            Err(fault) => Pulled::fault(&fault, Kind::Blob),
            Ok(flow) if flow.to.is_some() => content::passing_part(flow, &digest, LAYER_TYPE)
                .map_or_else(|| Pulled::failure(&respond::no_answer()), Pulled::bypass),
            Ok(flow) => {
                // A body that is announced as empty would never be looked at.
                let total = flow.total.filter(|total| *total > 0);
                let mut response = Response::new(Body::wrap(Passing::new(flow.body, digest)));
                content::describe(response.headers_mut(), &digest, LAYER_TYPE, total);
                Pulled::bypass(response)
            }
        }
    }

    /// A manifest by digest.
    pub(super) async fn manifest(&self, digest: Digest) -> Pulled {
        let (caller, _) = self.parts(Thing::Manifest(Reference::Digest(digest)));
        if self.method == Method::HEAD {
            return match self.proxy.cache.manifest_head(&caller, &digest).await {
                Ok((proof, outcome)) => {
                    let mut response = Response::new(Body::empty());
                    let media_type = proof.media_type.as_deref().unwrap_or("application/json");
                    content::describe(response.headers_mut(), &digest, media_type, proof.size);
                    Pulled { response, outcome, stored: false, age: None }
                }
                Err(fault) => Pulled::fault(&fault, Kind::Manifest),
            };
        }
        match self.proxy.cache.manifest(&caller, &digest).await {
            Err(fault) => Pulled::fault(&fault, Kind::Manifest),
            Ok(found) => self.manifest_found(&found, found.outcome, None),
        }
    }

    /// A manifest by tag: first what the tag means, then the manifest of that digest.
    pub(super) async fn tag(&self, tag: Tag) -> Pulled {
        let (caller, ask) = self.parts(Thing::Manifest(Reference::Tag(tag.clone())));
        let accept = Accept::parse(self.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()));
        let asking = if self.method == Method::HEAD { Asking::Description } else { Asking::Content };
        let question = Question { freshness: self.freshness(&tag), tag, accept, asking };
        let found = self.proxy.cache.tag(&caller, &question).await;
        let found = match found {
            Ok(found) => found,
            Err(fault) => return Pulled::fault(&fault, Kind::Manifest),
        };
        if found.outcome == Outcome::Stale {
            self.note_silence();
        }
        if asking == Asking::Description {
            return describe_tag(&found);
        }
        let caller = cache::Caller { source: Arc::new(ask.for_digest(found.digest)), ..caller };
        match self.proxy.cache.manifest(&caller, &found.digest).await {
            Err(fault) => Pulled::fault(&fault, Kind::Manifest),
            Ok(manifest) => {
                // The tag's word says where the answer came from, unless its manifest had to be fetched.
                let outcome = if manifest.outcome == Outcome::Hit { found.outcome } else { manifest.outcome };
                self.manifest_found(
                    &ManifestFound { media_type: found.media_type, ..manifest },
                    outcome,
                    Some(found.age),
                )
            }
        }
    }

    fn manifest_found(&self, found: &ManifestFound, outcome: Outcome, age: Option<Duration>) -> Pulled {
        let content = Content::Memory(found.bytes.clone());
        let pulled = self.content(found.digest, &found.media_type, &content, outcome);
        Pulled { stored: outcome == Outcome::Miss, age, ..pulled }
    }

    fn content(&self, digest: Digest, media_type: &str, content: &Content, outcome: Outcome) -> Pulled {
        let response = content::answer(&self.method, &self.headers, &digest, media_type, content);
        Pulled { response, outcome, stored: false, age: None }
    }

    fn parts(&self, thing: Thing) -> (cache::Caller, Ask) {
        let place = Place { registry: self.registry.origin(&self.authority), repository: self.repository.clone() };
        let credentials = Credentials::of(&self.headers);
        let authorization = credentials.authorization.as_ref().map(|value| value.as_bytes());
        let principal = self.proxy.cache.principal(&place.registry, authorization);
        let ask = Ask {
            upstream: self.upstream.clone(),
            metrics: self.proxy.metrics.clone(),
            registry: self.registry.clone(),
            host: self.authority.clone(),
            repository: self.repository.clone(),
            thing,
            credentials,
            client: self.client,
        };
        (cache::Caller { place, principal, source: Arc::new(ask.clone()) }, ask)
    }

    /// The policy's word; a registry that is known to be ill is not waited for as long.
    fn freshness(&self, tag: &Tag) -> Freshness {
        let freshness = self.registry.tags().of(tag);
        let well =
            self.registry.deciding_endpoints(&self.authority).iter().any(|endpoint| self.upstream.is_well(endpoint));
        Freshness {
            deadline: if well { freshness.deadline } else { freshness.deadline.min(ILL_DEADLINE) },
            ..freshness
        }
    }

    fn note_silence(&self) {
        for endpoint in self.registry.deciding_endpoints(&self.authority) {
            self.upstream.note_missed(&endpoint);
        }
    }
}

fn describe_tag(found: &TagFound) -> Pulled {
    let mut response = Response::new(Body::empty());
    content::describe(response.headers_mut(), &found.digest, &found.media_type, None);
    response.headers_mut().insert(CONTENT_LENGTH, found.size.into());
    Pulled { response, outcome: found.outcome, stored: false, age: Some(found.age) }
}

/// Whether the store, and not the registry, is what failed: then it passes through.
fn is_of_the_store(fault: &Fault) -> bool {
    fault.said == Said::Nothing && fault.cause.downcast_ref::<store::Error>().is_some()
}
