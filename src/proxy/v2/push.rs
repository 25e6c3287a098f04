//! Streams a push or a delete through, and has the cache learn from it: keep what was pushed, forget what was deleted.
//!
//! The body is never buffered: it goes to the registry as it comes, and a copy of it to the disk (`cache/push`). The final answer
//! waits for the commit, for a moment at most, so that what was pushed is a hit at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Uri};

use super::endpoint::endpoint;
use super::upload::{self, Write, WriteEnd};
use crate::cache::{
    Caller, Deletion, Landing, Principal, PushedManifest, Pusher, Pushes, Requester, Staging, TagWrite,
};
use crate::oci::{Algorithm, Digest, Reference, Tag};
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

/// What it may change of what is known. Whatever drops it, the client that leaves among it, leaves it in doubt.
struct Changes {
    /// The one in the path first.
    tags: Vec<TagWrite>,
    deletion: Option<Deletion>,
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
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let write = Write::of(&method, request.uri(), clearance.route(), &headers);
    let pusher = Pusher::new(Puller::of(context, repository, &headers).await.caller().clone());
    let tags = upload::written_tags(&method, request.uri(), clearance.route());
    let pushing = Pushing { context, pusher, write, asked: request.uri().clone() };
    let changes = pushing.changes(tags);
    let (request, staged) = pushing.stage(request);
    let acted = AtomicBool::new(false);
    let answer = forwarded(context, clearance, request, &acted).await;
    let (status, said) = match &answer {
        ServedAnswer::Message(response) => (response.status(), response.headers().clone()),
        other => (other.status(), HeaderMap::new()),
    };
    if status.is_success() {
        context.proxy.cache.forget_missing();
        context.proxy.lists.forget_gone();
    }
    let end = WriteEnd::of(&method, status, acted.into_inner());
    let own = changes.ended(end, &pushing.write);
    if matches!(answer, ServedAnswer::Message(_)) {
        Box::pin(pushing.heed(status, &said, staged, own)).await;
    }
    Served::bypass(answer)
}

async fn passed(context: &Context<'_>, clearance: &Clearance, request: Request<Body>) -> ServedAnswer {
    forwarded(context, clearance, request, &AtomicBool::new(false)).await
}

/// Passes it on; and notes whether the registry may have acted on it.
async fn forwarded(
    context: &Context<'_>,
    clearance: &Clearance,
    request: Request<Body>,
    acted: &AtomicBool,
) -> ServedAnswer {
    let endpoint = endpoint(context, clearance.route());
    let passing = async {
        let passed = forward::pass_write(context, &context.upstream, &endpoint, Kind::Upload, request).await;
        acted.store(passed.may_have_acted, Ordering::Relaxed);
        passed.answer
    };
    forward::within_share(context.proxy, context.client, passing).await
}

impl Changes {
    /// Tells what came of them. The write of the tag in the path is left where it has taken effect.
    fn ended(self, end: WriteEnd, write: &Write) -> Option<TagWrite> {
        let Self { tags, deletion } = self;
        match end {
            WriteEnd::InDoubt => return None, // what is dropped is
            WriteEnd::Refused => {
                tags.into_iter().for_each(TagWrite::refused);
                deletion.into_iter().for_each(Deletion::refused);
                return None;
            }
            WriteEnd::Done => drop(deletion),
        }
        let mut tags = tags.into_iter().map(TagWrite::done);
        let own =
            if matches!(write, Write::Manifest { reference: Reference::Tag(_), .. }) { tags.next() } else { None };
        tags.for_each(drop);
        own
    }
}

impl Pushing<'_> {
    fn pushes(&self) -> &Pushes {
        self.context.proxy.cache.pushes()
    }

    /// What it may change begins to be unknown.
    fn changes(&self, tags: Vec<Tag>) -> Changes {
        let (pushes, pusher) = (self.pushes(), &self.pusher);
        let deletion = match &self.write {
            Write::DeleteManifest(Reference::Digest(digest)) => Some(pushes.delete(pusher, digest, Content::Manifest)),
            Write::DeleteBlob(digest) => Some(pushes.delete(pusher, digest, Content::Blob)),
            _ => None,
        };
        Changes { tags: tags.into_iter().map(|tag| pushes.write_tag(pusher, tag)).collect(), deletion }
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
        let length = upload::length(headers);
        let begin = |algorithm| Some((self.pushes().begin(algorithm, length)?, true));
        match &self.write {
            Write::Manifest { digest, .. } => {
                let algorithm = digest.map_or(Algorithm::Sha256, |one| one.algorithm());
                Some((self.pushes().begin_manifest(algorithm, length)?, true))
            }
            Write::Begin { digest: Some(digest), mount: None, .. } => begin(digest.algorithm()),
            Write::Chunk { location, from, digest } => {
                let landing = self.pushes().resume(&self.pusher, location, *from, length)?;
                match digest {
                    // All of it comes now: it is hashed as it will be named.
                    Some(digest) if landing.is_empty() => begin(digest.algorithm()),
                    _ => Some((landing, false)),
                }
            }
            _ => None,
        }
    }

    /// Has the cache learn what the registry's answer says. `tag` is the write of the tag in the path, if that has taken effect.
    async fn heed(&self, status: StatusCode, said: &HeaderMap, staged: Option<Staged>, tag: Option<TagWrite>) {
        let (pushes, pusher) = (self.pushes(), &self.pusher);
        let is_accepted = status == StatusCode::CREATED;
        match &self.write {
            Write::Manifest { digest, media_type, .. } if status.is_success() => {
                upload::tagged(said).iter().for_each(|tag| pushes.forget_tag(pusher, tag));
                let accepted = digest.or(upload::accepted(said));
                let is_one = accepted.is_none_or(|accepted| upload::is_of(said, &accepted));
                let Some(Staged { staging, .. }) = staged.filter(|_| is_accepted && is_one) else { return };
                let manifest = PushedManifest { tag, digest: accepted, media_type: media_type.clone() };
                if let Some(digest) = pushes.accepted_manifest(pusher, manifest, staging).await {
                    self.prove(&digest, Content::Manifest, false).await;
                }
            }
            // Threat: a registry that uploads the body instead answers 201, too, and a mount that nobody made would open a private blob
            // to whoever may read here. Only the registry's own word for this very digest tells a mount.
            Write::Begin { mount: Some(mount), digest, .. } if is_accepted => {
                let is_mounted = digest.is_none_or(|digest| digest == *mount) && upload::proves(said, mount);
                if is_mounted && pushes.mounted(pusher, mount).await {
                    self.prove(mount, Content::Blob, true).await;
                }
            }
            Write::Begin { digest: Some(digest), mount: None, .. } | Write::Chunk { digest: Some(digest), .. }
                if is_accepted && upload::is_of(said, digest) =>
            {
                let Some(Staged { staging, .. }) = staged else { return };
                let is_one_request = matches!(self.write, Write::Begin { .. });
                if pushes.accepted_blob(pusher, *digest, staging, is_one_request).await {
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
