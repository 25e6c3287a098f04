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
    answers: Arc<Mutex<Answers>>,
}

/// The first answer that was well, and the last that was not. What is fetched ahead for the same client takes no other's place.
#[derive(Debug, Default)]
struct Answers {
    well: Option<UpstreamAnswer>,
    ill: Option<UpstreamAnswer>,
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
        Self { metrics, answers: Arc::default() }
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

    /// The answer of an upstream that stands behind a `status` for the client: one of its own kind, if there was any.
    pub(crate) fn answer(&self, status: u16) -> Option<UpstreamAnswer> {
        let Answers { well, ill } = &*self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if status < 400 { well.as_ref().or(ill.as_ref()) } else { ill.as_ref().or(well.as_ref()) }.cloned()
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

    fn keep(&self, host: &Authority, status: Option<u16>, elapsed: Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_well = status.is_some_and(|status| status < 400);
        if is_well && answers.well.is_some() {
            return;
        }
        let answer = Some(UpstreamAnswer { host: host.short(443).to_string(), status, elapsed });
        *(if is_well { &mut answers.well } else { &mut answers.ill }) = answer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn an_error_for_the_client_comes_with_the_upstreams_error_and_a_success_with_its_success() {
        let asked = AskedUpstream::new(Metrics::new().registry("quay.io"));
        let (quay, cdn): (Authority, Authority) =
            (Authority::parse("quay.io", 443).unwrap(), Authority::parse("cdn.quay.io", 443).unwrap());
        let shown = |status: u16| asked.answer(status).map(|answer| (answer.host, answer.status));
        assert_eq!(shown(404), None);
        asked.keep(&quay, Some(200), Duration::ZERO); // a HEAD
        assert_eq!(shown(404), Some(("quay.io".to_owned(), Some(200))), "there is no other");
        asked.keep(&quay, Some(404), Duration::ZERO); // the GET
        asked.keep(&cdn, Some(200), Duration::ZERO); // fetched ahead
        assert_eq!(shown(404), Some(("quay.io".to_owned(), Some(404))));
        assert_eq!(shown(200), Some(("quay.io".to_owned(), Some(200))));
        asked.keep(&cdn, None, Duration::ZERO);
        assert_eq!(shown(502), Some(("cdn.quay.io".to_owned(), None)));
    }
}
