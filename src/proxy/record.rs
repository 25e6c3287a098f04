//! Records one request while it lasts: one access line and the metrics, whenever and however it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, USER_AGENT};
use http::{Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};

use super::asked::AskedUpstream;
use super::respond::{Rendered, head_only};
use super::site::Arrival;
use crate::host::RequestId;
use crate::oci::{Reference, Repository};
use crate::telemetry::{AccessLine, Kind, Metrics, Outcome, RegistryMetrics, UpstreamAnswer};
use crate::wire::{Body, BodyError};

/// nginx's status for a client that disconnected before its answer.
const CLIENT_LEFT: u16 = 499;

/// The outcome while there is none.
const UNKNOWN: &str = "-";

/// A line holds this many characters of a path.
const PATH: usize = 128;

/// The record of one request. Dropping it writes it.
pub(crate) struct Record {
    line: AccessLine,
    started: Instant,
    metrics: Metrics,
    counted: Option<Counted>,
    asked: Option<AskedUpstream>,
    quiet: bool,
    aside: bool,
}

struct Counted {
    metrics: Arc<RegistryMetrics>,
    kind: Kind,
    outcome: Outcome,
}

impl Record {
    /// Begins the record of a request that came `from` there, for `host`.
    pub(crate) fn new<B>(
        metrics: &Metrics,
        from: Arrival,
        request: &Request<B>,
        host: impl Into<Arc<str>>,
        kind: &'static str,
    ) -> Self {
        let line = AccessLine {
            client: from.address,
            user: None,
            agent: request.headers().get(USER_AGENT).cloned(),
            door: from.door.label(),
            method: request.method().clone(),
            host: host.into(),
            registry: None,
            repository: None,
            reference: None,
            kind,
            outcome: UNKNOWN,
            status: CLIENT_LEFT,
            bytes: 0,
            elapsed: std::time::Duration::ZERO,
            upstream: None,
            request_id: RequestId::current().unwrap_or_else(RequestId::next),
            path: None,
            detail: None,
        };
        Self {
            line,
            started: Instant::now(),
            metrics: metrics.clone(),
            counted: None,
            asked: None,
            quiet: false,
            aside: false,
        }
    }

    /// Notes the user that the client has proven to be.
    pub(crate) fn user(&mut self, user: Option<&Arc<str>>) {
        self.line.user = user.cloned();
    }

    /// Notes the registry; the request counts in its metrics.
    pub(crate) fn registry(&mut self, name: &Arc<str>, kind: Kind) {
        self.line.registry = Some(name.clone());
        self.line.kind = kind.label();
        self.counted = Some(Counted { metrics: self.metrics.registry(name), kind, outcome: Outcome::Bypass });
    }

    /// Follows what is asked of an upstream for it.
    pub(crate) fn asked(&mut self, asked: AskedUpstream) {
        self.asked = Some(asked);
    }

    /// Notes what the request is for.
    pub(crate) fn reference(&mut self, repository: Option<Repository>, reference: Option<Reference>) {
        self.line.repository = repository;
        self.line.reference = reference;
    }

    /// Notes the path of a page of the proxy's own, as far as a line holds it. A query is no part of it.
    pub(crate) fn path(&mut self, path: &str) {
        self.line.path = Some(path.chars().take(PATH).collect());
    }

    /// Writes no line: it is a health check, sent every few seconds.
    pub(crate) fn quiet(&mut self) {
        self.quiet = true;
    }

    /// Counts as part of a request that began then.
    pub(crate) fn began(&mut self, then: Instant) {
        self.started = then;
    }

    /// Writes and counts nothing, as another answer is looked for in the place of this one.
    pub(crate) fn set_aside(&mut self) {
        self.aside = true;
    }

    /// Undoes [`Record::set_aside`]: this answer is the client's.
    pub(crate) fn taken_back(mut self) -> Self {
        self.aside = false;
        self
    }

    /// Notes where the answer came from.
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.line.outcome = outcome.label();
        if let Some(counted) = self.counted.as_mut() {
            counted.outcome = outcome;
        }
    }

    /// Notes how the upstream of a request to no registry answered.
    pub(crate) fn upstream(&mut self, answer: UpstreamAnswer) {
        self.line.upstream = Some(answer);
    }

    /// Notes what became of it, where that is not an outcome of the cache.
    pub(crate) fn verdict(&mut self, verdict: &'static str, status: u16) {
        self.line.outcome = verdict;
        self.line.status = status;
    }

    /// Notes what became of a request that was judged before its target was asked anything. The word for a CONNECT is
    /// also the label of its one count; for other requests it is `refuse`.
    pub(crate) fn judged(&mut self, word: &'static str, status: u16) {
        if self.line.method == Method::CONNECT {
            self.verdict(word, status);
            self.metrics.connect(word);
        } else {
            self.verdict("refuse", status);
        }
    }

    /// Notes why, in a few words.
    pub(crate) fn detail(&mut self, detail: impl Into<String>) {
        self.line.detail = Some(detail.into());
    }

    /// Counts bytes that went to the client.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.line.bytes += bytes;
    }

    /// Follows the answer's body to its end. An error that is not the proxy's own is an upstream's.
    pub(crate) fn attach(mut self, rendered: Rendered) -> Rendered {
        let Rendered { response, reason, declined, speaker } = rendered;
        let status = response.status();
        if let Some(reason) = &reason {
            self.line.detail.get_or_insert_with(|| reason.clone());
        } else if status.is_client_error() || status.is_server_error() {
            self.line.detail.get_or_insert_with(|| format!("the upstream answered {}", status.as_u16()));
        }
        Rendered { response: self.attached(response), reason, declined, speaker }
    }

    fn attached(mut self, response: Response<Body>) -> Response<Body> {
        self.line.status = response.status().as_u16();
        // hyper leaves a body out of the answer to a HEAD in HTTP/1.1, and sends it in HTTP/2.
        let response = if self.line.method == Method::HEAD { head_only(response) } else { response };
        let left = owed(&response);
        response.map(|body| Body::wrap(Recorded { body, record: self, left, ended: false }))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.aside {
            return;
        }
        self.line.elapsed = self.started.elapsed();
        if self.line.method == Method::CONNECT && self.line.outcome == UNKNOWN {
            self.judged("left", CLIENT_LEFT);
        }
        if let Some(counted) = &self.counted {
            let Counted { metrics, kind, outcome } = counted;
            metrics.answered(*kind, *outcome, self.line.status, self.line.bytes, self.line.elapsed);
        }
        if !self.quiet {
            if let Some(asked) = &self.asked {
                self.line.upstream = asked.answer(self.line.status);
            }
            self.line.emit();
        }
    }
}

/// How many bytes the answer has, where that is known: a forwarded answer may say so in its head only.
fn owed(response: &Response<Body>) -> Option<u64> {
    let said = || response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    response.body().size_hint().exact().or_else(said)
}

/// Records a body's bytes and its end.
struct Recorded {
    body: Body,
    record: Record,
    /// The bytes that the answer still owes, where its length was known: hyper does not poll again at 0.
    left: Option<u64>,
    ended: bool,
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let _entered = this.record.line.request_id.enter();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            None => this.ended = true,
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.record.sent(length);
                this.left = this.left.map(|left| left.saturating_sub(length));
            }
            Some(Err(error)) => {
                this.ended = true;
                this.record.detail(format!("broken off: {}", crate::telemetry::chain(error)));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // The head of a ping's answer says all: Go's clients close the connection without reading the rest.
        let is_read = self.ended || self.left == Some(0) || self.record.line.kind == Kind::Ping.label();
        if !is_read && !self.body.is_end_stream() {
            self.record.line.detail.get_or_insert_with(|| "the client disconnected before the end".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    #[test]
    fn what_an_answer_owes_is_known_by_its_body_or_by_its_head() {
        let stream = || Body::wrap(StreamBody::new(futures_util::stream::empty::<Result<Frame<Bytes>, BodyError>>()));
        let with = |length: &str, body| Response::builder().header(CONTENT_LENGTH, length).body(body).unwrap();
        assert_eq!(owed(&Response::new(Body::full("four"))), Some(4));
        assert_eq!(owed(&Response::new(stream())), None);
        assert_eq!(owed(&with("87", stream())), Some(87));
        assert_eq!(owed(&with("many", stream())), None);
        assert_eq!(owed(&with("87", Body::full("four"))), Some(4));
    }
}
