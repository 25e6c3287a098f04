//! Counts what is asked of an upstream for one request, and keeps how it was answered for the access line.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Response;

use crate::oci::Authority;
use crate::telemetry::{Kind, RegistryMetrics, UpstreamAnswer};
use crate::upstream::{AskError, Error, FinalHop};

/// The questions of one request. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct AskedUpstream {
    metrics: Arc<RegistryMetrics>,
    answer: Arc<Mutex<Option<UpstreamAnswer>>>,
}

/// One question under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentQuestion<'a> {
    kind: Kind,
    to: &'a Authority,
    begun: Instant,
}

impl AskedUpstream {
    /// Nothing asked yet.
    pub(crate) fn new(metrics: Arc<RegistryMetrics>) -> Self {
        Self { metrics, answer: Arc::default() }
    }

    /// The counters of the registry that is asked.
    pub(crate) fn metrics(&self) -> &Arc<RegistryMetrics> {
        &self.metrics
    }

    /// Begins a question to `to`.
    pub(crate) fn begin(kind: Kind, to: &Authority) -> SentQuestion<'_> {
        SentQuestion { kind, to, begun: Instant::now() }
    }

    /// Notes how an exchange ended.
    pub(crate) fn note<B>(&self, question: &SentQuestion<'_>, outcome: Result<&Response<B>, &Error>) {
        match outcome {
            Ok(response) => self.answered(question, response),
            Err(error) if error.is_unsent() => {}
            Err(error) => self.failed(question, error.host().unwrap_or(question.to), error.reason().label()),
        }
    }

    /// Notes how a question in somebody's name ended.
    pub(crate) fn note_asked<B>(&self, question: &SentQuestion<'_>, outcome: Result<&Response<B>, &AskError>) {
        match outcome {
            Ok(response) => self.answered(question, response),
            Err(ask_error) => {
                let realm = ask_error.token_service();
                // What failed was another question, to another host: the proxy's own one for a token.
                let question = &realm.map_or(*question, |to| SentQuestion { kind: Kind::Token, to, ..*question });
                match (ask_error.exchange(), ask_error.token_status()) {
                    (Some(error), _) => self.note::<B>(question, Err(error)),
                    (None, Some(status)) => {
                        let (status, elapsed) = (status.as_u16(), question.begun.elapsed());
                        self.metrics.upstream_answered(question.kind, status, elapsed);
                        self.metrics.upstream_error(ask_error.label());
                        self.keep(question.to, Some(status), elapsed);
                    }
                    (None, None) => self.failed(question, question.to, ask_error.label()),
                }
            }
        }
    }

    /// How the last question was answered; the first one that was answered well, if any was.
    pub(crate) fn answer(&self) -> Option<UpstreamAnswer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answered<B>(&self, question: &SentQuestion<'_>, response: &Response<B>) {
        let (status, elapsed) = (response.status().as_u16(), question.begun.elapsed());
        self.metrics.upstream_answered(question.kind, status, elapsed);
        let hop = response.extensions().get::<FinalHop>().map(|hop| &hop.authority);
        self.keep(hop.unwrap_or(question.to), Some(status), elapsed);
    }

    fn failed(&self, question: &SentQuestion<'_>, host: &Authority, reason: &'static str) {
        self.metrics.upstream_failed(question.kind, reason);
        self.keep(host, None, question.begun.elapsed());
    }

    /// What is fetched ahead for the same client, once its own answer is there, takes no other's place.
    fn keep(&self, host: &Authority, status: Option<u16>, elapsed: Duration) {
        let mut kept = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_well = kept.as_ref().is_some_and(|kept| kept.status.is_some_and(|status| status < 400));
        if !is_well {
            *kept = Some(UpstreamAnswer { host: host.short(443).to_string(), status, elapsed });
        }
    }
}
