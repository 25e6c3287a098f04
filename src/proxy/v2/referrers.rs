//! Passes on referrers, and keeps the last list of each query for when the registry cannot be asked.
//!
//! Tools that verify signatures take an empty list for "not signed", and so it is never invented: an outage or a throttle is
//! covered by what the registry said last, and without that, the failure reaches the client. A 404 is the registry's word.
//!
//! Threat: a private list reaches who may not read the repository. Defence: a kept one is given only to those whom the
//! cache would give a tag of the same repository.

use std::time::{Duration, Instant};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use http::{Method, Request, Response, StatusCode};

use super::listing;
use crate::cache::{Place, PlaceReader, Trust};
use crate::oci::{Repository, document};
use crate::proxy::auth::identity;
use crate::proxy::context::Context;
use crate::proxy::registry::lists::{KeptList, KeptLists, ListKey};
use crate::proxy::served::{Served, ServedAnswer};
use crate::proxy::{forward, respond};
use crate::telemetry::{Kind, Outcome};
use crate::upstream::Endpoint;
use crate::wire::{Ahead, Body, Received};

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

impl ReferrersQuery<'_> {
    /// The registry's answer, or the last one in its place.
    pub(crate) async fn answer(&self, request: Request<Received>) -> Served {
        let place = Place { registry: self.context.origin.clone(), repository: self.repository.clone() };
        let key = ListKey { place, target: request.uri().to_string().into() };
        let (kept, is_get) = (self.lists().find(&key), *request.method() == Method::GET);
        let headers = request.headers().clone(); // whose question it is
        let (asked, wait) = (Instant::now(), kept.as_ref().map_or(self.patience, |_| self.deadline()));
        let passed = listing::pass(self.context, self.repository, self.endpoint, self.kind, request);
        let passed = forward::within_share(self.context.proxy, self.context.client, passed);
        let answered =
            tokio::time::timeout(wait, async { self.noted(&key, passed.await, &headers, asked).await }).await;
        let failed = match answered {
            Ok(answer) if !is_failure(&answer) => return Served::bypass(answer),
            Ok(answer) => Served::bypass(answer),
            Err(_) => Served::failure(respond::no_answer()),
        };
        match kept.filter(|_| is_get) {
            Some(list) if self.may_read(&key.place, &headers).await => {
                tracing::info!(
                    registry = %key.place.registry, repository = %key.place.repository, status = failed.status().as_u16(),
                    "the registry failed; its last known list of referrers is served"
                );
                serve(&list)
            }
            _ => failed,
        }
    }

    /// Notes what a success says, and what is gone. One whose body breaks off is a failure.
    async fn noted(&self, key: &ListKey, answer: ServedAnswer, headers: &HeaderMap, asked: Instant) -> ServedAnswer {
        let status = answer.status();
        if status == StatusCode::NOT_FOUND && self.may_read(&key.place, headers).await {
            self.lists().forget(key);
        }
        let ServedAnswer::Message(response) = answer else { return answer };
        if status != StatusCode::OK || response.headers().contains_key(CONTENT_ENCODING) {
            return response.into();
        }
        let (mut parts, body) = response.into_parts();
        let bytes = match Ahead::read(body, LIST_LIMIT).await {
            Ahead::Whole(bytes) => bytes,
            Ahead::Long(body) => return Response::from_parts(parts, body).into(),
            Ahead::Broken(_) => return respond::no_answer().into(),
        };
        parts.headers.remove(CONTENT_LENGTH); // the body that was read says it
        if is_list(&bytes) {
            self.lists().note(key, KeptList::new(&parts.headers, bytes.clone(), asked));
        }
        Response::from_parts(parts, Body::full(bytes)).into()
    }

    /// Whether whoever asks may read here by what is known now: the registry may have gone away meanwhile.
    async fn may_read(&self, place: &Place, headers: &HeaderMap) -> bool {
        let (registry, cache) = (self.context.registry, &self.context.proxy.cache);
        let trust = Trust { lives: registry.lives(), away: self.context.outage.is_home_away(), ..Trust::default() };
        let public = cache.public_age(place).await;
        let identity = identity::of(self.context, place, headers, &trust, public.holds(&trust));
        let trust = Trust { lapsed: identity.lapsed, ..trust };
        cache.may_read(PlaceReader { place, principal: &identity.principal, trust: &trust, public: Some(public) }).await
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
