//! A pull: the cache's findings and the registry's answers become a response. Here cache and upstream meet.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, RANGE};
use http::{Method, Response, StatusCode};

use super::ask::{Ask, Manner, Thing};
use super::content::{self, Content};
use super::token_holder::TokenHolder;
use crate::cache::{
    self, Asking, BlobFound, Fault, Follower, Freshness, ManifestFound, Occasion, Passing, Place, Principal, Question,
    Said, Source, TagFound, Trust, Waiter, Want,
};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::proxy::auth::identity;
use crate::proxy::context::Context;
use crate::proxy::respond;
use crate::proxy::served::Served;
use crate::store;
use crate::telemetry::{Kind, Outcome};
use crate::upstream::AskAs;
use crate::wire::Body;

/// A client has its headers within this time in any case: containerd gives up after 30 s.
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
        let (caller, ask) = self.parts(Thing::Blob(digest)).await;
        let pulled = self.blob_of(&caller, &ask, digest).await;
        self.probe(&caller, &ask, &pulled);
        pulled
    }

    async fn blob_of(&self, caller: &cache::Caller, ask: &Arc<Ask>, digest: Digest) -> Served {
        if *self.method == Method::HEAD {
            return match self.context.proxy.cache.blob_head(caller, &digest).await {
                Ok((length, outcome)) => {
                    let response = content::head(self.headers, &digest, LAYER_TYPE, length);
                    Served { answer: response.into(), outcome, stored: false, age: None, digest: Some(digest) }
                }
                Err(fault) => Served::fault(&fault, Kind::Blob),
            };
        }
        let pulled = self.blob_for(caller, digest, ask).await;
        if self.headers.contains_key(RANGE) {
            self.context.proxy.cache.wants_pieces(caller, &digest);
        } else if pulled.status() == StatusCode::OK && pulled.outcome != Outcome::Bypass {
            let (ask, lent) = (Arc::clone(ask), self.is_lent(&caller.principal));
            let source_of = move |digest| source(Arc::new(ask.for_blob(digest)), lent);
            // Little is left of what the registry lets us pull: nothing is fetched that nobody asked for.
            let may = self.context.access.quotas().stretch(self.context.registry.name()).prefetch;
            let at_once = if may { self.context.registry.prefetch() } else { 0 };
            self.context.proxy.cache.prefetch(caller, &digest, at_once, source_of);
        }
        pulled
    }

    async fn blob_for(&self, caller: &cache::Caller, digest: Digest, ask: &Arc<Ask>) -> Served {
        let mut again = true;
        loop {
            match self.context.proxy.cache.blob(caller, &digest).await {
                Err(fault) if is_of_the_store(&fault) => return Box::pin(self.pass_blob(digest, ask, false)).await,
                Err(fault) => return Served::fault(&fault, Kind::Blob),
                Ok(BlobFound::Stored(blob, outcome)) => {
                    return self.content(digest, LAYER_TYPE, &Content::Stored(blob), outcome);
                }
                Ok(BlobFound::Filling(fill, outcome)) => match Box::pin(self.filling(digest, fill, outcome)).await {
                    Ok(pulled) => return pulled,
                    Err(fault) if is_of_the_store(&fault) => {
                        return Box::pin(self.pass_blob(digest, ask, false)).await;
                    }
                    // What broke the fill may be another caller's refusal: this one's own source is asked then.
                    Err(_) if again && outcome == Outcome::Collapsed => again = false,
                    Err(fault) => return Served::fault(&fault, Kind::Blob),
                },
                Ok(BlobFound::Unstorable { cause, known }) => {
                    tracing::error!(%digest, error = %cause, "the cache cannot store this blob; it is passed through without caching");
                    return Box::pin(self.pass_blob(digest, ask, known)).await;
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
            let pulled = self.content(digest, LAYER_TYPE, &Content::Filling(fill, total), outcome);
            return Ok(Served { stored: true, ..pulled });
        }
        let mut response = Response::new(Body::wrap(Follower::of(&fill, None)));
        content::describe(response.headers_mut(), &digest, LAYER_TYPE, None);
        Ok(Served { answer: response.into(), outcome, stored: true, age: None, digest: Some(digest) })
    }

    /// The blob past the store: a whole verified on its way, one part as it comes, several parts as the whole. From the
    /// registry itself where the caller's right is not `known`: a mirror's answer says nothing of it.
    async fn pass_blob(&self, digest: Digest, ask: &Ask, known: bool) -> Served {
        let alone = if known { None } else { ask.asking_no_mirror() };
        let ask = alone.as_ref().unwrap_or(ask);
        let part = content::one_part(self.headers, &digest);
        let want = part.map_or_else(Want::default, |(from, to)| Want { from, to, ..Want::default() });
        match ask.open(want).await {
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
        let (caller, ask) = self.parts(Thing::Manifest(Reference::Digest(digest))).await;
        let pulled = self.manifest_of(&caller, digest).await;
        self.probe(&caller, &ask, &pulled);
        pulled
    }

    async fn manifest_of(&self, caller: &cache::Caller, digest: Digest) -> Served {
        if *self.method == Method::HEAD {
            return match self.context.proxy.cache.manifest_head(caller, &digest).await {
                Ok((proof, outcome)) => {
                    let media_type = proof.media_type.as_deref().unwrap_or("application/json");
                    let response = content::head(self.headers, &digest, media_type, proof.size);
                    Served { answer: response.into(), outcome, stored: false, age: None, digest: Some(digest) }
                }
                Err(fault) => Served::fault(&fault, Kind::Manifest),
            };
        }
        match self.context.proxy.cache.manifest(caller, &digest).await {
            Err(fault) => Served::fault(&fault, Kind::Manifest),
            Ok(found) => self.manifest_found(&found, found.outcome, None),
        }
    }

    /// A manifest by tag: first what the tag means, then the manifest of that digest.
    pub(crate) async fn tag(&self, tag: Tag) -> Served {
        let (caller, ask) = self.parts(Thing::Manifest(Reference::Tag(tag.clone()))).await;
        let pulled = self.tag_of(&caller, &ask, tag).await;
        self.probe(&caller, &ask, &pulled);
        pulled
    }

    async fn tag_of(&self, caller: &cache::Caller, ask: &Arc<Ask>, tag: Tag) -> Served {
        let accept = ask.manner.accept;
        let asking = if *self.method == Method::HEAD { Asking::Description } else { Asking::Content };
        let question = Question { freshness: self.freshness(&tag), tag, accept, asking };
        let found = self.context.proxy.cache.tag(caller, &question).await;
        let found = match found {
            Ok(found) => found,
            Err(fault) => return Served::fault(&fault, Kind::Manifest),
        };
        if asking == Asking::Description {
            return self.tag_head(&found);
        }
        // Who was just told the last known answer does not wait for the registry a second time.
        let away = caller.trust.away || found.outcome == Outcome::Stale;
        let source = self.source(Arc::new(ask.for_digest(found.digest)), &caller.principal);
        let caller = cache::Caller { source, trust: Trust { away, ..caller.trust }, ..caller.clone() };
        match self.context.proxy.cache.manifest(&caller, &found.digest).await {
            Err(fault) => Served::fault(&fault, Kind::Manifest),
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
        let content = Content::Memory(found.bytes.clone());
        let pulled = self.content(found.digest, &found.media_type, &content, outcome);
        Served { stored: outcome == Outcome::Miss, age, ..pulled }
    }

    fn content(&self, digest: Digest, media_type: &str, content: &Content, outcome: Outcome) -> Served {
        let response = content::answer(self.method, self.headers, &digest, media_type, content);
        Served { answer: response.into(), outcome, stored: false, age: None, digest: Some(digest) }
    }

    async fn parts(&self, thing: Thing) -> (cache::Caller, Arc<Ask>) {
        let context = self.context;
        let place = Place { registry: context.origin.clone(), repository: self.repository.clone() };
        let deadline = context.deadline(context.registry.tags().deadline());
        let forgeable = context.registry.is_reached_in_the_clear();
        let trust = Trust { lives: context.registry.lives(), deadline, away: false, lapsed: false, forgeable };
        let identity = identity::of(context, &place, self.headers, &trust).await;
        let ask = Arc::new(Ask {
            upstream: context.upstream.clone(),
            access: context.access.clone(),
            outage: context.outage.clone(),
            metrics: context.proxy.metrics.clone(),
            registry: context.registry.clone(),
            host: context.authority.clone(),
            repository: self.repository.clone(),
            thing,
            who: identity.who,
            public: identity.public,
            mirrors: true,
            manner: Manner::of(self.headers, context.upstream.has_parents().then_some(&context.proxy.pseudonym)),
            client: context.client,
        });
        let trust = Trust { away: context.outage.is_home_away(), lapsed: identity.lapsed, ..trust };
        let source = self.source(ask.clone(), &identity.principal);
        (cache::Caller { place, principal: identity.principal, source, trust }, ask)
    }

    fn source(&self, ask: Arc<Ask>, principal: &Principal) -> Arc<dyn Source> {
        source(ask, self.is_lent(principal))
    }

    /// Whether it is asked as nobody for somebody who holds a token of ours: a no says nothing of the holder.
    fn is_lent(&self, principal: &Principal) -> bool {
        self.context.holder.is_some() && matches!(principal, Principal::Known(_))
    }

    /// Has it found out behind whether anybody may have what the caller was just given, or refused.
    fn probe(&self, caller: &cache::Caller, ask: &Arc<Ask>, pulled: &Served) {
        let occasion = match (pulled.status(), &caller.principal) {
            (status, Principal::Known(_) | Principal::Proxy) if status.is_success() => Occasion::Served,
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Principal::Anybody) if ask.public => Occasion::Refused,
            _ => return,
        };
        if pulled.outcome != Outcome::Stale && !matches!(ask.who, AskAs::Nobody) {
            let (principal, source) = (Principal::Anonymous, Arc::new(ask.for_nobody()));
            let nobody = cache::Caller { principal, source, ..caller.clone() };
            self.context.proxy.cache.probe(&nobody, ask.subject(), occasion);
        }
    }

    /// The policy's word, for longer where little is left of what the registry lets us ask.
    fn freshness(&self, tag: &Tag) -> Freshness {
        let freshness = self.context.registry.tags().of(tag);
        let stretch = self.context.access.quotas().stretch(self.context.registry.name());
        Freshness {
            fresh_for: freshness.fresh_for.saturating_mul(stretch.freshness),
            deadline: self.context.deadline(freshness.deadline),
        }
    }
}

fn source(ask: Arc<Ask>, lent: bool) -> Arc<dyn Source> {
    if lent { Arc::new(TokenHolder(ask)) } else { ask }
}

/// Whether the store, and not the registry, is what failed: then it passes through.
fn is_of_the_store(fault: &Fault) -> bool {
    let of_the_store = |error: &store::Error| !error.is_exhausted(); // that would take another file
    fault.said == Said::Nothing && fault.cause.downcast_ref().is_some_and(of_the_store)
}
