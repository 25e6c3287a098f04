//! What is asked in one caller's name as the cache's source: bytes, a proof, or a manifest, made of upstream requests.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::answer_head;
use super::ask::{Ask, Asking, read};
use crate::cache::{Fault, Flow, Proof, Queue, Retry, Source, Want, Whole};
use crate::host::{self, Overdue};
use crate::proxy::answer;
use crate::upstream::AskAs;
use crate::upstream::is_foreign;
use crate::upstream::{Downloads, Error};

impl Source for Ask {
    fn decides(&self) -> bool {
        let endpoints = self.endpoints(&Method::GET);
        let deciding = endpoints.iter().filter(|endpoint| endpoint.authoritative()).count();
        deciding == endpoints.len() || deciding == 0
    }

    fn without_mirrors(&self) -> Option<Arc<dyn Source>> {
        self.asking_no_mirror().map(|ask| -> Arc<dyn Source> { Arc::new(ask) })
    }

    fn open(&self, want: Want) -> BoxFuture<'_, Result<Flow, Fault>> {
        Box::pin(async move {
            let span = Some((want.from, want.to)).filter(|span| *span != (0, None));
            let downloads = match want.queue {
                Queue::Uncounted => Downloads::Paced,
                Queue::Wait => Downloads::Wait,
                Queue::Spare => Downloads::Spare,
            };
            let mut asking = Asking { span, validators: want.if_range, way: want.way, last: want.last, downloads };
            // The rest of what has begun is asked for again, until its patience ends: the registry may come back.
            let again = |fault: Fault| match fault.cause.downcast_ref() {
                Some(Error::Away { .. }) if want.from > 0 => Fault { retry: Retry::Again, ..fault },
                _ => fault,
            };
            let asked = self.ask(Method::GET, &asking).await;
            if let Err(fault) = &asked
                && let Some(nothing) = answer_head::nothing_more(fault, want.from)
            {
                return nothing;
            }
            let (mut response, mut endpoint) = asked.map_err(again)?;
            // Another tag is no other content, which the digest names: another edge of a CDN, perhaps.
            let known = asking.validators.iter().find(|known| *known.endpoint == *endpoint.name());
            if span.is_some()
                && response.status() != StatusCode::PARTIAL_CONTENT
                && known.is_some_and(|known| answer_head::strong_tag(response.headers()) != Some(known.tag.clone()))
            {
                drop(response);
                asking.validators.clear();
                (response, endpoint) = self.ask(Method::GET, &asking).await?;
            }
            answer_head::flow(response, &endpoint, span)
        })
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, Fault>> {
        Box::pin(async move {
            let (response, _) = self.watched(self.ask(Method::HEAD, &Asking::default())).await?;
            Ok(answer_head::proof(response.headers()))
        })
    }

    fn whole(&self) -> BoxFuture<'_, Result<Whole, Fault>> {
        Box::pin(async move {
            let (response, endpoint) = self.watched(self.ask(Method::GET, &Asking::default())).await?;
            let (digest, media_type) =
                (answer_head::digest(response.headers()), answer_head::media_type(response.headers()));
            let is_foreign = is_foreign(&response, &endpoint);
            let bytes = read(response.into_body(), &endpoint).await?;
            Ok(Whole { bytes, media_type, digest, is_foreign })
        })
    }

    fn is_bare(&self) -> bool {
        matches!(self.who, AskAs::Caller(None)) && !self.public
    }

    fn is_away(&self) -> bool {
        self.outage.is_home_away()
    }

    fn is_gone(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.outage.is_gone())
    }

    fn is_throttle(&self, fault: &Fault) -> bool {
        let refused = fault.cause.downcast_ref::<answer::Refused>();
        refused.is_some_and(|refused| refused.status == StatusCode::TOO_MANY_REQUESTS)
    }

    fn absence(&self) -> Option<Fault> {
        let away = || Error::Away { to: self.host.clone(), retry_after: self.outage.retry_after() };
        self.outage.is_home_away().then(|| answer::fault_of(away()))
    }

    fn fresh_since(&self) -> Option<Instant> {
        let changed = self.outage.changed();
        Some(Instant::now().checked_sub(self.registry.tags().deadline()).map_or(changed, |due| due.max(changed)))
    }

    fn missed(&self, begun: Instant) {
        self.upstream.asked_of(&self.registry.deciding_endpoints(&self.host), None).note_missed(begun);
    }
}

impl Ask {
    /// Waits for an answer however long it takes; the registry's deadline, when it passes, is told.
    async fn watched<T>(&self, answer: impl Future<Output = T>) -> T {
        let about: &dyn Source = self;
        host::watched(self.registry.tags().deadline(), about, answer).await
    }
}
