//! Passes on referrers, and keeps the last list of each query for when the registry cannot be asked.
//!
//! Tools that verify signatures take an empty list for "not signed", and so it is never invented: an outage or a throttle is
//! covered by what the registry said last, and without that, the failure reaches the client. A 404 is the registry's word.
//!
//! Threat: a private list reaches who may not read the repository. Defence: a kept one is given to those whom the registry
//! itself gave it, and to those whom the cache would give a tag of the same repository.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use http::{Method, Request, Response, StatusCode};

use super::listing;
use crate::cache::{Place, PlaceReader, Principal, Trust};
use crate::oci::{Repository, document};
use crate::proxy::auth::identity;
use crate::proxy::context::Context;
use crate::proxy::registry::lists::{KeptList, KeptLists, ListKey};
use crate::proxy::served::{Served, ServedAnswer};
use crate::proxy::{forward, respond};
use crate::telemetry::{Kind, Outcome};
use crate::upstream::{Endpoint, is_told_by_authorization};
use crate::wire::{Body, Noted, Received};

/// A longer list is not kept.
const LIST_LIMIT: usize = 1 << 20;

/// One query.
pub(crate) struct ReferrersQuery<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) repository: &'a Repository,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) kind: Kind,
    /// How long a client waits.
    pub(crate) patience: Duration,
}

/// Who asks, by what is known at one moment.
struct ListReader {
    principal: Principal,
    trust: Trust,
    may_read: bool,
}

impl ReferrersQuery<'_> {
    /// The registry's answer, or the last one in its place.
    pub(crate) async fn answer(&self, request: Request<Received>) -> Served {
        let place = Place { registry: self.context.origin.clone(), repository: self.repository.clone() };
        let asker = self.asker(&place, request.headers()).await;
        let shared = ListKey { place, target: request.uri().to_string().into(), told: None };
        let own = ListKey { told: Some(asker.principal.shared()), ..shared.clone() };
        let is_known = self.lists().find(&own).or_else(|| self.lists().find(&shared)).is_some();
        let (headers, is_get) = (request.headers().clone(), *request.method() == Method::GET);
        let (asked, wait) = (Instant::now(), if is_known { self.deadline() } else { self.patience });
        let passed = Box::pin(listing::pass(self.context, self.repository, self.endpoint, self.kind, request));
        let passed = Box::pin(forward::within_share(self.context.proxy, self.context.client, passed));
        let failed = match tokio::time::timeout(wait, passed).await {
            Ok(answer) if !is_failure(&answer) => {
                return Served::bypass(self.noted([own, shared], answer, &headers, asked).await);
            }
            Ok(answer) => Served::bypass(answer),
            Err(_) => Served::failure(respond::no_answer()),
        };
        if !is_get {
            return failed;
        }
        // The registry may have gone away meanwhile, which lets rights hold longer.
        let asker = self.asker(&own.place, &headers).await;
        let Some(list) = self.kept_for(&asker, &own, &shared) else { return failed };
        tracing::info!(
            registry = %own.place.registry, repository = %own.place.repository, status = failed.status().as_u16(),
            "the registry failed; its last known list of referrers is served"
        );
        serve(&list)
    }

    /// What the registry told this very caller, or else those who may read in the repository, if it is one of them.
    fn kept_for(&self, asker: &ListReader, own: &ListKey, shared: &ListKey) -> Option<Arc<KeptList>> {
        let may_hear_again = |list: &Arc<KeptList>| {
            let ListReader { principal, trust, may_read } = asker;
            let reader = PlaceReader { place: &own.place, principal, trust, public: None };
            *may_read || self.context.proxy.cache.may_hear_again(reader, list.asked)
        };
        let shared = || self.lists().find(shared).filter(|_| asker.may_read);
        self.lists().find(own).filter(may_hear_again).or_else(shared)
    }

    /// Notes what a success says, once it has passed, and what is refused or gone.
    async fn noted(
        &self,
        [own, shared]: [ListKey; 2],
        answer: ServedAnswer,
        headers: &HeaderMap,
        asked: Instant,
    ) -> ServedAnswer {
        let status = answer.status();
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.lists().forget(&own);
        }
        let asker = self.asker(&own.place, headers).await;
        if status == StatusCode::NOT_FOUND && asker.may_read {
            self.lists().forget(&shared);
        }
        let ServedAnswer::Message(response) = answer else { return answer };
        // Threat: a token in a field of a registry's own (`Private-Token`), whose answer is noted as that of nobody.
        let is_theirs = is_told_by_authorization(headers);
        if status != StatusCode::OK || !is_theirs || response.headers().contains_key(CONTENT_ENCODING) {
            return response.into();
        }
        let (parts, body) = response.into_parts();
        let (lists, head) = (self.lists().clone(), parts.headers.clone());
        let note = move |bytes: Bytes| {
            if is_list(&bytes) {
                let keys = [Some(own), asker.may_read.then_some(shared)];
                lists.note(keys.into_iter().flatten(), KeptList::new(&head, bytes, asked));
            }
        };
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Response::from_parts(parts, Body::wrap(Noted::new(body, length, LIST_LIMIT, note))).into()
    }

    async fn asker(&self, place: &Place, headers: &HeaderMap) -> ListReader {
        let (registry, cache) = (self.context.registry, &self.context.proxy.cache);
        let trust = Trust { lives: registry.lives(), away: self.context.outage.is_home_away(), ..Trust::default() };
        let public = cache.public_age(place).await;
        let identity = identity::of(self.context, place, headers, &trust, public.holds(&trust));
        let (principal, trust) = (identity.principal, Trust { lapsed: identity.lapsed, ..trust });
        let reader = PlaceReader { place, principal: &principal, trust: &trust, public: Some(public) };
        let may_read = cache.may_read(reader).await;
        ListReader { principal, trust, may_read }
    }

    fn deadline(&self) -> Duration {
        self.context.deadline(self.context.registry.tags().deadline()).min(self.patience)
    }

    fn lists(&self) -> &KeptLists {
        &self.context.proxy.referrers
    }
}

fn serve(list: &KeptList) -> Served {
    let mut response = Response::new(Body::full(list.bytes.clone()));
    *response.headers_mut() = list.headers.clone();
    Served { outcome: Outcome::Stale, age: Some(list.asked.elapsed()), ..Served::bypass(response) }
}

/// A throttle, a fault of the registry or of the way to it; not that this proxy has no file left.
fn is_failure(answer: &ServedAnswer) -> bool {
    let status = answer.status();
    (status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()) && !answer.is_ours()
}

/// Whether it is an image index, as the specification has it, and no page.
fn is_list(bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Index {
        #[expect(dead_code, reason = "that they are there is enough")]
        manifests: Vec<serde::de::IgnoredAny>,
    }
    document::<Index>(bytes).is_some()
}
