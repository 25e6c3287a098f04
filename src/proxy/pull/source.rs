//! Makes the cache's source of a registry that is asked in one caller's name: bytes, a proof, or a manifest, by upstream
//! requests.
//!
//! A source for a client that holds a token of the proxy asks as nobody. What the registry denies to nobody says nothing of
//! the holder, so it takes away no right and no last known answer; where there is none, the registry's own 401 reaches
//! the client.

use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::answer_head;
use super::ask::{Ask, FetchOptions, read};
use super::coding;
use crate::cache::{
    Carried, Fault, FaultKind, Flow, Origins, Proof, Retry, Said, Source, Subject, Want, WhenFull, Whole,
};
use crate::host::{self, Overdue};
use crate::oci::Digest;
use crate::proxy::answer::{self, FaultCause, Refused};
use crate::upstream::is_foreign;
use crate::upstream::{AskError, Downloads, Error, HeadKind, answer_room};

/// What is left for GET of the time that a client waits for the registry, where HEAD is never answered; half of a shorter one.
const GET_TIME: Duration = Duration::from_secs(3);

/// The host refuses HEAD and serves GET, as it has shown lately.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the registry is not asked by HEAD, which it refuses")]
struct HeadRefused;

impl Source for Ask {
    fn decides(&self) -> bool {
        let endpoints = self.registry.endpoints(&self.host);
        let deciding = endpoints.iter().filter(|endpoint| endpoint.authoritative()).count();
        deciding == endpoints.len() || deciding == 0
    }

    fn open<'a>(&'a self, digest: &'a Digest, want: Want) -> BoxFuture<'a, Result<Flow, Fault>> {
        Box::pin(async move { self.opened(digest, want).await.map_err(|fault| self.softened(fault)) })
    }

    fn prove<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Proof, Fault>> {
        Box::pin(async move {
            let (heads, kind) = (self.upstream.heads(), head_kind(subject));
            if heads.is_refused(&self.host, kind) {
                return Err(Fault::new(Retry::Again, HeadRefused).unfit());
            }
            let deadline = self.registry.tags().deadline();
            let patience = Some(deadline.saturating_sub(GET_TIME.min(deadline / 2)));
            let options = FetchOptions { patience, ..FetchOptions::default() };
            let asked = self.watched(self.ask(Method::HEAD, subject, &options)).await;
            let (response, _) = asked.map_err(|fault| self.softened(self.of_head(fault, kind)))?;
            let proof = answer_head::proof(response.headers()).plausible(subject);
            // The length of a manifest that would come coded is another one's.
            let is_other = coding::is_gzip(response.headers()) && !matches!(subject, Subject::Blob(_));
            let proof = Proof { size: proof.size.filter(|_| !is_other), ..proof };
            if proof.reach(subject, None).is_some() {
                heads.worked(&self.host, kind);
            }
            Ok(proof)
        })
    }

    fn compared(&self, subject: &Subject, by_head: Option<&Fault>, by_get: Option<&Fault>) {
        let (heads, kind) = (self.upstream.heads(), head_kind(subject));
        let refused = by_head.and_then(Refused::within).map(|refused| refused.status);
        let was_asked = by_head.is_none_or(|fault| !fault.cause.is::<HeadRefused>());
        match by_get {
            None if was_asked => {
                let is_about_method =
                    matches!(refused, Some(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED));
                heads.contradicted(&self.host, kind, is_about_method || by_head.is_none());
            }
            Some(fault) if by_head.is_some_and(|head| is_alike(head, fault)) => heads.repeated(&self.host, kind),
            _ => {}
        }
    }

    fn whole<'a>(&'a self, subject: &'a Subject, origins: Origins) -> BoxFuture<'a, Result<Whole, Fault>> {
        Box::pin(async move { self.got(subject, origins).await.map_err(|fault| self.softened(fault)) })
    }

    fn is_away(&self) -> bool {
        self.outage.is_home_away()
    }

    fn is_gone(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.outage.is_gone())
    }

    fn absence(&self) -> Option<Fault> {
        self.outage.is_home_away().then(|| answer::fault_of(self.outage.away(&self.host, self.outage.retry_after())))
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
    async fn opened(&self, digest: &Digest, want: Want) -> Result<Flow, Fault> {
        let subject = Subject::Blob(*digest);
        let span = Some((want.from, want.to)).filter(|span| *span != (0, None));
        let downloads = match want.when_full {
            WhenFull::Uncounted => Downloads::Paced,
            WhenFull::Wait => Downloads::Wait,
            WhenFull::Spare => Downloads::Spare,
        };
        let Want { origins, if_range: validators, way, last, resumes, .. } = want;
        let mut options = FetchOptions { origins, span, validators, way, last, downloads, resumes, patience: None };
        // The rest of what has begun is asked for again, until its backoff ends: the registry may come back.
        let again = |fault: Fault| match fault.kind {
            FaultKind::Away if want.from > 0 || resumes => Fault { retry: Retry::Again, ..fault },
            _ => fault,
        };
        let asked = self.ask(Method::GET, &subject, &options).await;
        if let Err(fault) = &asked
            && let Some(nothing) = answer_head::nothing_more(fault, want.from)
        {
            return nothing;
        }
        let (mut response, mut endpoint) = asked.map_err(again)?;
        // Another tag is no other content, which the digest names: another edge of a CDN, perhaps.
        let known = options.validators.iter().find(|known| *known.endpoint == *endpoint.name());
        if span.is_some()
            && response.status() != StatusCode::PARTIAL_CONTENT
            && known.is_some_and(|known| answer_head::strong_tag(response.headers()) != Some(known.tag.clone()))
        {
            drop(response);
            options.validators.clear();
            (response, endpoint) = self.ask(Method::GET, &subject, &options).await?;
        }
        let headers = response.headers().clone();
        let flow = answer_head::flow(response, &endpoint, span)?;
        Ok(answer_head::decoded(&headers, flow, digest, answer_room(endpoint.authority())).await)
    }

    async fn got(&self, subject: &Subject, origins: Origins) -> Result<Whole, Fault> {
        let options = FetchOptions { origins, ..FetchOptions::default() };
        let (response, endpoint) = self.watched(self.ask(Method::GET, subject, &options)).await?;
        let (digest, media_type) =
            (answer_head::digest(response.headers()), answer_head::media_type(response.headers()));
        let is_foreign = is_foreign(&response, &endpoint);
        let wanted = if let Subject::Manifest(wanted) = subject { Some(*wanted) } else { digest };
        let (parts, body) = response.into_parts();
        let bytes = read(&parts.headers, body, &endpoint, wanted).await?;
        Ok(Whole { bytes, media_type, digest, is_foreign })
    }

    /// The failure of a HEAD: GET may do better wherever there was an answer, or a connection on which none came.
    fn of_head(&self, fault: Fault, kind: HeadKind) -> Fault {
        let is_answered = match FaultCause::of(&fault) {
            _ if fault.cause.is::<AskError>() => false, // no token, or none of the proxy's own credentials
            FaultCause::Refused(_) => !(is_passing(&fault) && self.upstream.heads().is_alike(&self.host, kind)),
            FaultCause::Upstream(error) => matches!(
                error,
                Error::Exchange { .. }
                    | Error::FirstByteTimeout { .. }
                    | Error::Misfit { .. }
                    | Error::Unreadable { .. }
                    | Error::InsecureRedirect { .. }
                    | Error::BadLocation { .. }
            ),
            FaultCause::NotAsked(_) | FaultCause::Store(_) | FaultCause::NoAnswer => false,
            FaultCause::HandedOver(_) | FaultCause::Elsewhere(_) => true,
            FaultCause::Other => !fault.cause.is::<answer::NoEndpoint>(),
        };
        Fault { unfit: is_answered, ..fault }
    }

    /// `fault` as it counts for the caller: a no to a source that carries less than the caller has says nothing of it. Many
    /// registries say 404 to a client that may not know that something is there.
    fn softened(&self, fault: Fault) -> Fault {
        let is_no = match fault.said {
            Said::Challenged | Said::Denied | Said::Forbidden | Said::Missing => true,
            Said::Refused => answer::is_missing(&fault),
            Said::Nothing => false,
        };
        if self.carried == Carried::Reduced && is_no { Fault { said: Said::Nothing, ..fault } } else { fault }
    }

    /// Waits for an answer however long it takes; the registry's deadline is noted when it is missed.
    fn watched<T>(&self, answer: impl Future<Output = T>) -> impl Future<Output = T> {
        let about: &dyn Source = self;
        host::watched(self.registry.tags().deadline(), about, answer)
    }
}

fn head_kind(subject: &Subject) -> HeadKind {
    match subject {
        Subject::Tag(..) => HeadKind::Tag,
        Subject::Manifest(_) => HeadKind::Manifest,
        Subject::Blob(_) => HeadKind::Blob,
    }
}

/// Whether a refusal is about the asking and no content: a challenge to nobody, or a throttle.
fn is_passing(fault: &Fault) -> bool {
    fault.said == Said::Challenged || fault.kind == FaultKind::Throttle
}

/// Whether HEAD and GET were refused in the same way, by such a refusal.
fn is_alike(one: &Fault, other: &Fault) -> bool {
    is_passing(one) && one.said == other.said && one.kind == other.kind
}
