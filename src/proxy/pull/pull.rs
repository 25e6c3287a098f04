//! Answers a pull: what the cache finds, or the registry answers, becomes a response.

use std::time::Duration;

use http::header::{HeaderMap, RANGE};
use http::{Method, Response, StatusCode};

use super::ask::accepted;
use super::content::{self, Payload};
use super::puller::Puller;
use super::resumed::resumed;
use crate::cache::{
    Asking, BlobFound, Cache, Fault, FaultKind, Follower, Freshness, ManifestFound, Occasion, Origins, Passing,
    Principal, Requester, Said, Source, Subject, TagFound, TagQuestion, Waiter, Want,
};
use crate::oci::{Accept, Digest, Repository, Tag};
use crate::proxy::context::Context;
use crate::proxy::respond;
use crate::proxy::served::Served;
use crate::telemetry::{Kind, Outcome};
use crate::wire::Body;

/// A client always gets response headers within this time: containerd gives up after 30 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);
/// How long a reader waits for the end of a fill whose length nobody said.
const SOON: Duration = Duration::from_secs(5);
const LAYER_TYPE: &str = "application/octet-stream";

/// One GET or HEAD for content.
#[derive(Clone, Copy)]
pub(crate) struct Pull<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) repository: &'a Repository,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

impl Pull<'_> {
    /// A blob by digest.
    pub(crate) async fn blob(&self, digest: Digest) -> Served {
        let puller = self.puller().await;
        let pulled = self.blob_of(&puller, digest).await;
        self.probe(&puller, || Subject::Blob(digest), &pulled);
        pulled
    }

    async fn blob_of(&self, puller: &Puller<'_>, digest: Digest) -> Served {
        if *self.method == Method::HEAD {
            return match self.cache().blob_head(puller, &digest).await {
                Ok((length, outcome)) => {
                    let response = content::head(self.headers, &digest, LAYER_TYPE, length);
                    Served { answer: response.into(), outcome, stored: false, age: None, digest: Some(digest) }
                }
                Err(fault) => Served::fault(&fault, Kind::Blob),
            };
        }
        let pulled = self.blob_for(puller, digest).await;
        if self.headers.contains_key(RANGE) {
            self.cache().wants_pieces(puller.reader(), &digest);
        } else if pulled.status() == StatusCode::OK && pulled.outcome != Outcome::Bypass {
            let registry = self.context.registry;
            // Where little is left of the registry's pull limit, nothing is fetched that no client asked for.
            let may = || self.context.quotas().stretch(registry.name()).prefetch;
            self.cache().prefetch(puller, &digest, || if may() { registry.prefetch() } else { 0 });
        }
        pulled
    }

    async fn blob_for(&self, puller: &Puller<'_>, digest: Digest) -> Served {
        let mut is_first = true;
        loop {
            let found = if is_first {
                self.cache().blob(puller, &digest).await
            } else {
                // What was looked up of who may read may have changed meanwhile.
                Box::pin(self.cache().blob(puller.caller(), &digest)).await
            };
            match found {
                Err(fault) if is_of_the_store(&fault) => return Box::pin(self.pass_blob(digest, puller, false)).await,
                Err(fault) => return Served::fault(&fault, Kind::Blob),
                Ok(BlobFound::Stored(blob, outcome)) => {
                    return self.content(digest, LAYER_TYPE, &Payload::Stored(blob), outcome);
                }
                Ok(BlobFound::Filling(fill, outcome)) => match Box::pin(self.filling(digest, fill, outcome)).await {
                    Ok(pulled) => return pulled,
                    Err(fault) if is_of_the_store(&fault) => {
                        return Box::pin(self.pass_blob(digest, puller, false)).await;
                    }
                    // What broke the fill may be another caller's refusal: this one's own source is asked then.
                    Err(_) if is_first && outcome == Outcome::Collapsed => is_first = false,
                    Err(fault) => return Served::fault(&fault, Kind::Blob),
                },
                Ok(BlobFound::Unstorable { cause, known }) => {
                    if let Some(unlogged) = self.context.proxy.store.tells_of_failure() {
                        let place = &puller.caller().place;
                        tracing::error!(registry = %place.registry, repository = %place.repository, %digest, error = crate::telemetry::chain(&cause), unlogged, "the cache cannot store this blob; it is passed through without caching");
                    }
                    return Box::pin(self.pass_blob(digest, puller, known)).await;
                }
            }
        }
    }

    async fn filling(&self, digest: Digest, fill: Waiter, outcome: Outcome) -> Result<Served, Fault> {
        let mut length = fill.length().await?;
        if length.is_none() {
            // The upstream does not say how long it is. What comes soon gets a length all the same.
            length = match tokio::time::timeout(SOON, fill.verified()).await {
                Ok(verified) => Some(verified?),
                Err(_) => None,
            };
        }
        if let Some(total) = length {
            // That there is no such part is said of the content, not of what may be a page.
            if content::is_beyond(self.headers, &digest, total)
                && let Ok(verified) = tokio::time::timeout(SOON, fill.verified()).await
            {
                verified?;
            }
            let pulled = self.content(digest, LAYER_TYPE, &Payload::Filling(fill, total), outcome);
            return Ok(Served { stored: true, ..pulled });
        }
        let mut response = Response::new(Body::wrap(Follower::of(&fill, None)));
        content::describe(response.headers_mut(), &digest, LAYER_TYPE, None);
        Ok(Served { answer: response.into(), outcome, stored: true, age: None, digest: Some(digest) })
    }

    /// Passes the blob on without the store: a whole is verified on its way, one part passes as it comes, and several parts
    /// are answered by the whole. It comes from the registry itself where the caller's right is not `known`: a mirror's
    /// answer says nothing of it.
    async fn pass_blob(&self, digest: Digest, puller: &Puller<'_>, known: bool) -> Served {
        let origins = if known { Origins::Any } else { Origins::Registry };
        let part = content::one_part(self.headers, &digest);
        let (from, to) = part.unwrap_or_default();
        let want = Want { from, to, origins, ..Want::default() };
        let opened = puller.ask().open(&digest, want.clone()).await;
        match opened.map(|flow| resumed(puller.ask().clone(), digest, want, flow)) {
            Err(fault) => Served::fault(&fault, Kind::Blob),
            Ok(flow) if flow.total == Some(flow.at) && flow.at > 0 => Served::bypass(respond::unsatisfiable(flow.at)),
            Ok(flow) if flow.to.is_some() => content::passing_part(flow, &digest, LAYER_TYPE)
                .map_or_else(|| Served::failure(respond::no_answer()), Served::bypass),
            Ok(flow) => {
                // A body that is announced as empty would never be looked at.
                let total = flow.total.filter(|total| *total > 0);
                let mut response = Response::new(Body::wrap(Passing::new(flow.body, digest)));
                content::describe(response.headers_mut(), &digest, LAYER_TYPE, total);
                Served::bypass(response)
            }
        }
    }

    /// A manifest by digest.
    pub(crate) async fn manifest(&self, digest: Digest) -> Served {
        let puller = self.puller().await;
        let pulled = self.manifest_of(&puller, digest).await;
        self.probe(&puller, || Subject::Manifest(digest), &pulled);
        pulled
    }

    async fn manifest_of(&self, puller: &Puller<'_>, digest: Digest) -> Served {
        if *self.method == Method::HEAD {
            return match self.cache().manifest_head(puller, &digest).await {
                Ok((proof, outcome)) => {
                    let media_type = proof.media_type.as_deref().unwrap_or("application/json");
                    let response = content::head(self.headers, &digest, media_type, proof.size);
                    Served { answer: response.into(), outcome, stored: false, age: None, digest: Some(digest) }
                }
                Err(fault) => Served::fault(&fault, Kind::Manifest),
            };
        }
        match self.cache().manifest(puller, &digest).await {
            Err(fault) => Served::fault(&fault, Kind::Manifest),
            Ok(found) => self.manifest_found(&found, found.outcome, None),
        }
    }

    /// A manifest by tag: first what the tag means, then the manifest of that digest.
    pub(crate) async fn tag(&self, tag: &Tag) -> Served {
        let puller = self.puller().await;
        let (accept, _) = accepted(self.headers);
        let pulled = self.tag_of(&puller, tag, accept).await;
        self.probe(&puller, || Subject::Tag(tag.clone(), accept), &pulled);
        pulled
    }

    async fn tag_of(&self, puller: &Puller<'_>, tag: &Tag, accept: Accept) -> Served {
        let asking = if *self.method == Method::HEAD { Asking::Description } else { Asking::Content };
        let question = TagQuestion { freshness: self.freshness(tag), tag: tag.clone(), accept, asking };
        if asking == Asking::Description {
            return match self.cache().tag(puller, &question).await {
                Ok(found) => self.tag_head(&found),
                Err(fault) => Served::fault(&fault, Kind::Manifest),
            };
        }
        match self.cache().tagged_manifest(puller, &question).await {
            Err(fault) => Served::fault(&fault, Kind::Manifest),
            Ok((found, manifest)) => {
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

    fn tag_head(&self, found: &TagFound) -> Served {
        let response = content::head(self.headers, &found.digest, &found.media_type, Some(found.size));
        Served {
            answer: response.into(),
            outcome: found.outcome,
            stored: false,
            age: Some(found.age),
            digest: Some(found.digest),
        }
    }

    fn manifest_found(&self, found: &ManifestFound, outcome: Outcome, age: Option<Duration>) -> Served {
        let content = Payload::Memory(found.bytes.clone());
        let pulled = self.content(found.digest, &found.media_type, &content, outcome);
        Served { stored: outcome == Outcome::Miss, age, ..pulled }
    }

    fn content(&self, digest: Digest, media_type: &str, content: &Payload, outcome: Outcome) -> Served {
        let answer = content::answer(self.method, self.headers, &digest, media_type, content);
        Served { answer, outcome, stored: false, age: None, digest: Some(digest) }
    }

    async fn puller(&self) -> Puller<'_> {
        Puller::of(self.context, self.repository, self.headers).await
    }

    fn cache(&self) -> &Cache {
        &self.context.proxy.cache
    }

    /// Checks in the background whether anybody may have what the caller was just given, or refused.
    fn probe(&self, puller: &Puller<'_>, subject: impl FnOnce() -> Subject, pulled: &Served) {
        let reader = puller.reader();
        let occasion = match (pulled.status(), reader.principal) {
            (status, Principal::Known(_) | Principal::Proxy) if status.is_success() => Occasion::Served,
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Principal::Anybody) if puller.is_public() => {
                Occasion::Refused
            }
            _ => return,
        };
        if pulled.outcome != Outcome::Stale && !puller.asks_as_nobody() {
            self.cache().probe(reader, subject(), occasion, || puller.nobody());
        }
    }

    /// How long the tag is believed by the policy; longer where little is left of the registry's pull limit.
    fn freshness(&self, tag: &Tag) -> Freshness {
        let freshness = self.context.registry.tags().of(tag);
        let stretch = self.context.quotas().stretch(self.context.registry.name());
        Freshness {
            fresh_for: freshness.fresh_for.saturating_mul(stretch.freshness),
            deadline: self.context.deadline(freshness.deadline),
        }
    }
}

/// Whether the store has failed, and not the registry: then the blob passes through.
fn is_of_the_store(fault: &Fault) -> bool {
    fault.said == Said::Nothing && fault.kind == FaultKind::Store
}
