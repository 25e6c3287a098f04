//! Passes on lists of tags and of referrers, and keeps the last one of each query for when the registry cannot be asked.
//!
//! Tools that verify signatures take an empty list for "not signed", and so it is never invented: an outage or a throttle is
//! covered by what the registry said last, and without that, the failure reaches the client. That a registry has no
//! referrers (404: it has not that endpoint, and clients then ask for a tag) is its word, too.
//!
//! Threat: a private list reaches who may not read the repository. Defence: a kept one is given to those whom the registry
//! itself gave it, and to those whom the cache would give a tag of the same repository. A 404 is given to the very principal
//! that it was said to, and is shared by nobody but those who have no credentials.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::listing;
use super::read::or_challenge;
use super::reader::ListReader;
use crate::cache::{Place, PlaceReader, Principal};
use crate::oci::{Repository, document};
use crate::proxy::answer::Refused;
use crate::proxy::auth::guesses;
use crate::proxy::context::Context;
use crate::proxy::registry::lists::{KeptList, KeptLists, ListKey};
use crate::proxy::served::{Served, ServedAnswer};
use crate::proxy::{forward, respond};
use crate::telemetry::{Kind, Outcome};
use crate::upstream::{Endpoint, is_told_by_authorization};
use crate::wire::{Body, Noted, Received};

/// A longer list is not kept.
const LIST_LIMIT: usize = 1 << 20;
/// Nor are more words about what is not there.
const WORDS_LIMIT: usize = 16 << 10;

/// One query.
pub(crate) struct ListQuery<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) repository: &'a Repository,
    pub(crate) endpoint: &'a Endpoint,
    /// [`Kind::Tags`] or [`Kind::Referrers`].
    pub(crate) kind: Kind,
    /// How long a client waits.
    pub(crate) patience: Duration,
}

/// The answers that may be kept for a query.
struct ListKeys {
    /// What the principal was told, or any without credentials if it has none.
    own: ListKey,
    /// What those who may read were told.
    shared: ListKey,
    /// What was said a moment ago to those without credentials, or to those with a token that anybody is given.
    nobody: Option<ListKey>,
}

impl ListQuery<'_> {
    /// The registry's answer, or the last one in its place.
    pub(crate) async fn answer(&self, request: Request<Received>) -> Served {
        let place = Place { registry: self.context.origin.clone(), repository: self.repository.clone() };
        let was_open = self.context.outage.is_open();
        if was_open && let Err(busy) = Box::pin(guesses::admit_reader(self.context, self.repository)).await {
            return Served::failure(busy);
        }
        let asker = self.asker(&place, request.headers()).await;
        let target = Arc::from(request.uri().to_string());
        // Threat: a token in a field of a registry's own (`Private-Token`), whose answer is noted as that of nobody.
        let is_theirs = is_told_by_authorization(request.headers());
        let keys = ListKeys::of(place, target, &asker);
        let is_get = *request.method() == Method::GET;
        let known = keys.nobody.as_ref().filter(|_| is_get && is_theirs && self.kind == Kind::Referrers);
        if let Some(gone) = known.and_then(|key| self.lists().gone(key, self.context.registry.tags().missing_for())) {
            return Served { outcome: Outcome::Hit, ..serve(&gone, is_get) };
        }
        let is_known = self.lists().find(&keys.own).is_some() || self.lists().recall(&keys.shared).await.is_some();
        let headers = request.headers().clone();
        let (asked, wait) = (Instant::now(), if is_known { self.deadline() } else { self.patience });
        let passed = Box::pin(listing::pass(self.context, self.repository, self.endpoint, self.kind, request));
        let passed = Box::pin(forward::within_share(self.context.proxy, self.context.client, passed));
        let failed = match tokio::time::timeout(wait, passed).await {
            Ok(answer) if is_failure(&answer) => Served::bypass(answer),
            Ok(answer) if is_get && is_theirs => {
                return Served::bypass(self.noted(keys, answer, &headers, asked).await);
            }
            Ok(answer) => return Served::bypass(answer),
            Err(_) => Served::failure(respond::no_answer()),
        };
        // It fails for everybody: here it is the proxy that tells a right password from a wrong one.
        if !was_open && let Err(busy) = Box::pin(guesses::admit_reader(self.context, self.repository)).await {
            return Served::failure(busy);
        }
        // The registry may have gone away meanwhile, which lets rights hold longer.
        let asker = self.asker(&keys.own.place, &headers).await;
        let Some(list) = self.kept_for(&asker, &keys).await else {
            // With credentials it may be one that may read.
            return if asker.may_read {
                failed
            } else {
                or_challenge(self.context, Some(self.repository), failed).await
            };
        };
        tracing::info!(
            registry = %keys.own.place.registry, repository = %keys.own.place.repository, kind = self.kind.label(),
            status = failed.status().as_u16(), "the registry failed; its last known list is served"
        );
        serve(&list, is_get)
    }

    /// What the registry told this very caller, or else those who may read in the repository, if it is one of them.
    async fn kept_for(&self, asker: &ListReader, keys: &ListKeys) -> Option<Arc<KeptList>> {
        let ListReader { principal, trust, may_read } = asker;
        let may_hear_again = |list: &Arc<KeptList>| {
            let reader = PlaceReader { place: &keys.own.place, principal, trust, public: None };
            *may_read || self.context.proxy.cache.may_hear_again(reader, list.asked)
        };
        let own = self.lists().find(&keys.own).filter(may_hear_again);
        if let Some(list) = own.as_ref().filter(|list| list.status == StatusCode::OK) {
            return Some(list.clone());
        }
        let shared = if *may_read { self.lists().recall(&keys.shared).await } else { None };
        shared.or(own)
    }

    /// Notes what a success says, once it has passed, and what is refused or gone.
    async fn noted(&self, keys: ListKeys, answer: ServedAnswer, headers: &HeaderMap, asked: Instant) -> ServedAnswer {
        let status = answer.status();
        let is_gone = status == StatusCode::NOT_FOUND;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.lists().forget(&keys.own);
        }
        let ServedAnswer::Message(response) = answer else { return answer };
        if !(is_gone || status == StatusCode::OK) || response.headers().contains_key(CONTENT_ENCODING) {
            return response.into();
        }
        let asker = self.asker(&keys.own.place, headers).await;
        let (parts, body) = response.into_parts();
        let (lists, head, kind) = (self.lists().clone(), parts.headers.clone(), self.kind);
        let note = move |bytes: Bytes| {
            let ListKeys { own, shared, nobody } = keys;
            let shared = asker.may_read.then_some(shared);
            let said = KeptList::new(status, &head, bytes.clone(), asked);
            if !is_gone {
                if is_list(kind, &bytes) {
                    lists.note(own, shared, said);
                }
                return;
            }
            // Threat: a gateway's 404 while the registry is down. It takes no list away. A registry that has no referrers
            // endpoint often says that in words of its server's.
            let is_own_word = Refused { status, headers: head, body: bytes }.is_own_word();
            let is_listed = || lists.is_listed(&own) || shared.as_ref().is_some_and(|shared| lists.is_listed(shared));
            if !is_own_word && (kind == Kind::Tags || is_listed()) {
                return;
            }
            shared.iter().chain([&own]).for_each(|key| lists.forget(key));
            if kind == Kind::Referrers {
                lists.note_gone(own, nobody, said);
            }
        };
        let limit = if is_gone { WORDS_LIMIT } else { LIST_LIMIT };
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Response::from_parts(parts, Body::wrap(Noted::new(body, length, limit, note))).into()
    }

    async fn asker(&self, place: &Place, headers: &HeaderMap) -> ListReader {
        ListReader::of(self.context, place, headers).await
    }

    fn deadline(&self) -> Duration {
        self.context.deadline(self.context.registry.tags().deadline()).min(self.patience)
    }

    fn lists(&self) -> &KeptLists {
        &self.context.proxy.lists
    }
}

impl ListKeys {
    fn of(place: Place, target: Arc<str>, asker: &ListReader) -> Self {
        let shared = ListKey { place, target, told: None };
        let of = |principal: &Principal| ListKey { told: Some(principal.clone()), ..shared.clone() };
        let is_nobody = matches!(asker.principal, Principal::Anonymous | Principal::Anybody) && !asker.trust.lapsed;
        let nobody = is_nobody.then(|| of(&asker.principal));
        Self { own: of(&asker.principal.shared()), nobody, shared }
    }
}

fn serve(list: &KeptList, is_get: bool) -> Served {
    let body = if is_get { Body::full(list.bytes.clone()) } else { Body::empty() };
    let mut response = Response::new(body);
    *response.status_mut() = list.status;
    *response.headers_mut() = list.headers.clone();
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(list.bytes.len()));
    Served { outcome: Outcome::Stale, age: Some(list.asked.elapsed()), ..Served::bypass(response) }
}

/// A throttle, a fault of the registry or of the way to it; not that this proxy has no file left.
fn is_failure(answer: &ServedAnswer) -> bool {
    let status = answer.status();
    (status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()) && !answer.is_ours()
}

/// Whether it is what the specification has for such a list, and no page: an image index, or the tags of a repository, of
/// which some registries say `null` where there are none.
fn is_list(kind: Kind, bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "that they are there is enough")]
    struct Index {
        manifests: Vec<serde::de::IgnoredAny>,
    }
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "that they are there is enough")]
    struct Tags {
        name: String,
        tags: Option<Vec<String>>,
    }
    if kind == Kind::Tags { document::<Tags>(bytes).is_some() } else { document::<Index>(bytes).is_some() }
}
