//! Holds what a request is served, as facts, until it is rendered as the last step before the client.
//!
//! Outage, probe, prefetch, audit log and the check of shared addresses decide on these facts; none of them reads a
//! header or an extension of a response back.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode};

use super::answer::{self, FaultCause, Refused};
use super::faults;
use super::record::Record;
use super::respond::{self, Failure, Rendered};
use crate::cache::Fault;
use crate::oci::Digest;
use crate::telemetry::{Kind, Outcome};
use crate::wire::Body;

/// An answer, and where it came from.
pub(crate) struct Served {
    pub(crate) answer: ServedAnswer,
    pub(crate) outcome: Outcome,
    /// It is stored on its way.
    pub(crate) stored: bool,
    /// How old a remembered answer is.
    pub(crate) age: Option<Duration>,
    /// The content that it is.
    pub(crate) digest: Option<Digest>,
}

/// An answer that is not rendered yet.
pub(crate) enum ServedAnswer {
    /// Content, or what an upstream said, with a body that streams.
    Message(Response<Body>),
    /// A registry's refusal of a question for something of this kind.
    Refused(Box<Refused>, Kind),
    /// The proxy's own words.
    Failure(Box<Failure>),
}

impl ServedAnswer {
    /// The registry's own answer, if a fault is one, else the proxy's.
    pub(crate) fn of_fault(fault: &Fault, kind: Kind) -> Self {
        match FaultCause::of(fault) {
            FaultCause::Refused(refused) => Self::Refused(Box::new(refused.clone()), kind),
            FaultCause::HandedOver(handed_over) => faults::hand_over(handed_over).into(),
            _ => faults::failure(fault).into(),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Message(response) => response.status(),
            Self::Refused(refused, _) => refused.status,
            Self::Failure(failure) => failure.status,
        }
    }

    /// Whether nobody was asked, as the registry is away.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.is_away())
    }

    /// Whether it was not asked for want of files here, which says nothing of the registry.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.is_ours())
    }

    /// Why the proxy refuses the request, if it does and the audit log was not told so yet.
    pub(crate) fn declined(&self) -> Option<&str> {
        match self {
            Self::Failure(failure) => failure.declined(),
            Self::Message(_) | Self::Refused(..) => None,
        }
    }

    fn render(self) -> Rendered {
        match self {
            Self::Message(response) => {
                let speaker = answer::speaker(response.status(), response.headers());
                Rendered { speaker, ..response.into() }
            }
            Self::Refused(refused, kind) => {
                let (reason, speaker) = (Some(refused.to_string()), refused.speaker());
                Rendered { reason, speaker, ..faults::pass_on(&refused, kind).into() }
            }
            Self::Failure(failure) => failure.render(),
        }
    }
}

impl From<Response<Body>> for ServedAnswer {
    fn from(response: Response<Body>) -> Self {
        Self::Message(response)
    }
}

impl From<Failure> for ServedAnswer {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

impl Served {
    /// An answer that is passed on and not kept.
    pub(crate) fn bypass(answer: impl Into<ServedAnswer>) -> Self {
        Self { answer: answer.into(), outcome: Outcome::Bypass, stored: false, age: None, digest: None }
    }

    /// An upstream's answer that is passed on and not kept; it may say which content it is.
    pub(crate) fn passed(answer: ServedAnswer) -> Self {
        let said =
            |response: &Response<Body>| response.headers().get(respond::CONTENT_DIGEST)?.to_str().ok()?.parse().ok();
        let digest = if let ServedAnswer::Message(response) = &answer { said(response) } else { None };
        Self { digest, ..Self::bypass(answer) }
    }

    /// The proxy's own words, where something else was to be had.
    pub(crate) fn failure(failure: Failure) -> Self {
        Self { outcome: Outcome::Miss, ..Self::bypass(failure) }
    }

    /// The answer to a fault: the registry's own, if it gave one, else the proxy's.
    pub(crate) fn fault(fault: &Fault, kind: Kind) -> Self {
        Self { outcome: Outcome::Miss, ..Self::bypass(ServedAnswer::of_fault(fault, kind)) }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// The answer as the client gets it, with the word of where it came from, which is noted.
    pub(crate) fn render(self, record: &mut Record) -> Rendered {
        record.outcome(self.outcome);
        let mut rendered = self.answer.render();
        let (status, headers) = (rendered.response.status(), rendered.response.headers_mut());
        let failed = status.is_client_error() || status.is_server_error();
        if !failed || self.outcome != Outcome::Miss {
            respond::mark(headers, self.outcome, self.stored, self.age);
        } else if let Ok(value) =
            HeaderValue::from_str(&format!("pullthrough; fwd=uri-miss; fwd-status={}", status.as_u16()))
        {
            headers.insert(respond::CACHE_STATUS, value);
        }
        rendered
    }
}
