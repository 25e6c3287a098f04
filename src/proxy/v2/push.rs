//! Streams a push or a delete through, and has the cache learn from it: keep what was pushed, forget what was deleted.
//!
//! The body is never buffered: it goes to the registry as it comes, and a copy of it to the disk (`cache/push`). The final answer
//! waits for the commit, for a moment at most, so that what was pushed is a hit at once.

use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Uri};

use super::endpoint::endpoint;
use super::upload::{self, Write};
use crate::cache::{Caller, Landing, Principal, PushedManifest, Pusher, Pushes, Requester, Staging};
use crate::oci::{Algorithm, Digest, Reference};
use crate::proxy::clients::clearance::Clearance;
use crate::proxy::context::Context;
use crate::proxy::forward;
use crate::proxy::pull::puller::Puller;
use crate::proxy::served::{Served, ServedAnswer};
use crate::store::Content;
use crate::telemetry::Kind;
use crate::wire::{Body, Received};

/// The registry is asked so long whether who pushed may read.
const PROOF_WAIT: Duration = Duration::from_secs(2);

/// A write under way.
struct Pushing<'a> {
    context: &'a Context<'a>,
    pusher: Pusher,
    write: Write,
    asked: Uri,
}

/// What is staged of it.
struct Staged {
    staging: Staging,
    /// Whether it had landed nothing before.
    is_first: bool,
    is_empty: bool,
}

/// Streams it to the registry, and its answer back.
pub(crate) async fn answer(context: &Context<'_>, clearance: &Clearance, request: Request<Received>) -> Served {
    let request = request.map(Body::wrap);
    // Only what is the registry's own is learned from.
    let Some(repository) = clearance.route().repository().filter(|_| context.registry.is_at(context.authority)) else {
        let answer = passed(context, clearance, request).await;
        if answer.status().is_success() {
            context.proxy.cache.forget_missing();
            context.proxy.lists.forget_gone();
        }
        return Served::bypass(answer);
    };
    let headers = request.headers().clone();
    let write = Write::of(request.method(), request.uri(), clearance.route(), &headers);
    let pusher = Pusher::new(Puller::of(context, repository, &headers).await.caller().clone());
    let pushing = Pushing { context, pusher, write, asked: request.uri().clone() };
    let (request, staged) = pushing.stage(request);
    let answer = passed(context, clearance, request).await;
    let (status, said) = match &answer {
        ServedAnswer::Message(response) => (response.status(), response.headers().clone()),
        other => (other.status(), HeaderMap::new()),
    };
    if status.is_success() {
        context.proxy.cache.forget_missing();
        context.proxy.lists.forget_gone();
    }
    if matches!(answer, ServedAnswer::Message(_)) {
        Box::pin(pushing.heed(status, &said, staged)).await;
    }
    Served::bypass(answer)
}

async fn passed(context: &Context<'_>, clearance: &Clearance, request: Request<Body>) -> ServedAnswer {
    let endpoint = endpoint(context, clearance.route());
    let passing = forward::pass(context, &context.upstream, &endpoint, Kind::Upload, request);
    forward::within_share(context.proxy, context.client, passing).await
}

impl Pushing<'_> {
    fn pushes(&self) -> &Pushes {
        self.context.proxy.cache.pushes()
    }

    /// The request with a body that is staged, if it brings content and that can be.
    fn stage(&self, request: Request<Body>) -> (Request<Body>, Option<Staged>) {
        let Some((landing, is_first)) = self.landing(request.headers()) else { return (request, None) };
        let (parts, body) = request.into_parts();
        let is_empty = http_body::Body::is_end_stream(&body);
        let (body, staging) = self.pushes().stage(&self.pusher, landing, body);
        (Request::from_parts(parts, body), Some(Staged { staging, is_first, is_empty }))
    }

    /// What had landed before, and whether that was nothing.
    fn landing(&self, headers: &HeaderMap) -> Option<(Landing, bool)> {
        let begin = |algorithm| Some((self.pushes().begin(algorithm, upload::length(headers))?, true));
        match &self.write {
            Write::Manifest { digest, .. } => begin(digest.map_or(Algorithm::Sha256, |one| one.algorithm())),
            Write::Begin { digest: Some(digest), mount: None, .. } => begin(digest.algorithm()),
            Write::Chunk { location, from, digest } => {
                let landing = self.pushes().resume(&self.pusher, location, *from)?;
                match digest {
                    // All of it comes now: it is hashed as it will be named.
                    Some(digest) if landing.is_empty() => begin(digest.algorithm()),
                    _ => Some((landing, false)),
                }
            }
            _ => None,
        }
    }

    /// Has the cache learn what the registry's answer says.
    async fn heed(&self, status: StatusCode, said: &HeaderMap, staged: Option<Staged>) {
        let (pushes, pusher) = (self.pushes(), &self.pusher);
        let is_accepted = status == StatusCode::CREATED;
        match &self.write {
            Write::Manifest { reference, digest, media_type } if status.is_success() => {
                let tag = if let Reference::Tag(tag) = reference { Some(tag.clone()) } else { None };
                if let Some(tag) = &tag {
                    self.context.proxy.cache.forget_tag(&pusher.caller().place, tag);
                }
                let accepted = upload::accepted(said);
                let is_one = digest.is_none_or(|digest| accepted.is_none_or(|accepted| accepted == digest));
                let Some(Staged { staging, .. }) = staged.filter(|_| is_accepted && is_one) else { return };
                let manifest = PushedManifest { tag, digest: digest.or(accepted), media_type: media_type.clone() };
                if let Some(digest) = pushes.accepted_manifest(pusher, manifest, staging).await {
                    self.prove(&digest, Content::Manifest, false).await;
                }
            }
            Write::Begin { mount: Some(digest), .. } if is_accepted && is_of(said, digest) => {
                let is_linked = pushes.mounted(pusher, digest).await;
                if is_linked {
                    self.prove(digest, Content::Blob, true).await;
                }
            }
            Write::Begin { digest: Some(digest), mount: None, .. } | Write::Chunk { digest: Some(digest), .. }
                if is_accepted && is_of(said, digest) =>
            {
                let Some(Staged { staging, .. }) = staged else { return };
                if pushes.accepted_blob(pusher, *digest, staging).await {
                    self.prove(digest, Content::Blob, false).await;
                }
            }
            Write::Begin { algorithm, .. } if status == StatusCode::ACCEPTED => {
                if let (Some(location), Some(landing)) =
                    (upload::location(&self.asked, said), pushes.begin(*algorithm, None))
                {
                    pushes.park(pusher, &location, landing, None);
                }
            }
            Write::Chunk { location, .. } => self.heed_chunk(location, status, said, staged).await,
            Write::Cancel { location } => pushes.cancelled(pusher, location),
            Write::DeleteManifest(Reference::Tag(tag)) if status.is_success() => {
                self.context.proxy.cache.forget_tag(&pusher.caller().place, tag);
            }
            Write::DeleteManifest(Reference::Digest(digest)) if status.is_success() => {
                pushes.deleted(pusher, digest, Content::Manifest);
            }
            Write::DeleteBlob(digest) if status.is_success() => pushes.deleted(pusher, digest, Content::Blob),
            _ => {}
        }
    }

    /// A chunk that is not the last one, or was not accepted.
    async fn heed_chunk(&self, location: &str, status: StatusCode, said: &HeaderMap, staged: Option<Staged>) {
        let (pushes, pusher) = (self.pushes(), &self.pusher);
        let Some(Staged { staging, is_first, is_empty }) = staged else { return };
        if status == StatusCode::ACCEPTED {
            let next = upload::location(&self.asked, said).unwrap_or_else(|| location.to_owned());
            if let Some(landing) = pushes.landed(staging).await {
                pushes.park(pusher, &next, landing, upload::received(said));
            }
            return;
        }
        // The client may come again with another token, or later. What came with this request would come twice.
        let may_come_again = status.is_server_error()
            || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
        let landing = match may_come_again {
            true if is_empty => pushes.landed(staging).await,
            true if is_first => pushes.begin(Algorithm::Sha256, None),
            _ => None,
        };
        if let Some(landing) = landing {
            pushes.park(pusher, location, landing, None);
        }
    }

    /// Asks the registry whether who pushed may read, where a push does not say it: of nobody, since that would be everybody's
    /// right, and of who mounted a blob without having sent it.
    async fn prove(&self, digest: &Digest, content: Content, is_mounted: bool) {
        let (cache, caller) = (&self.context.proxy.cache, self.pusher.caller());
        let Caller { principal, .. } = caller;
        if !is_mounted && matches!(principal, Principal::Known(_)) || cache.may_read(Requester::reader(caller)).await {
            return;
        }
        let asking = async {
            match content {
                Content::Blob => cache.blob_head(caller, digest).await.map(drop),
                Content::Manifest => cache.manifest_head(caller, digest).await.map(drop),
            }
        };
        let _ = tokio::time::timeout(PROOF_WAIT, asking).await; // without it the next pull asks
    }
}

/// Whether the registry accepted this content, as far as it says.
fn is_of(said: &HeaderMap, digest: &Digest) -> bool {
    upload::accepted(said).is_none_or(|accepted| accepted == *digest)
}
