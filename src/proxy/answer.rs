//! Keeps what an upstream said instead of content, as facts, until `respond` makes an answer of it.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use super::respond::{API_VERSION, Speaker};
use crate::cache::{Fault, FaultKind, NoAnswer, Retry, Said};
use crate::oci::{Authority, Challenge, Look, document};
use crate::store;
use crate::upstream::AskError;
use crate::upstream::{self, Endpoint, Error};
use crate::wire::Body;

/// An error's head is passed on up to this size.
const HEAD_LIMIT: usize = 32 << 10;
/// An error body is passed on up to this length.
const BODY_LIMIT: usize = 64 << 10;
/// An error body is passed on if it ends within this time: its head has said what counts.
const BODY_TIME: Duration = Duration::from_secs(5);

/// The `User-Agent` where the client sent none.
pub(crate) const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("pullthrough/", env!("CARGO_PKG_VERSION")));

/// An upstream's answer that is not a success.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the registry answered {status}")]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A success that does not answer the request: a part for the whole, another part, an empty answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the upstream answered {status} with {why}")]
pub(crate) struct Misfit {
    pub(crate) status: StatusCode,
    pub(crate) why: &'static str,
}

/// HTML in answer to a request for a blob: a login or an error that a gateway shows in the registry's place.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the upstream answered a request for a blob with an HTML page")]
pub(crate) struct Page;

/// A refusal by a host to which the registry redirected. Its body is not passed on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{authority}, to which the registry redirects, answered {status}")]
pub(crate) struct Elsewhere {
    pub(crate) authority: Authority,
    pub(crate) status: StatusCode,
}

/// The registry redirects to another one, which wants credentials of its own: the client, who may have some, asks there
/// itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the registry redirects to {authority}, which requires credentials")]
pub(crate) struct HandedOver {
    pub(crate) authority: Authority,
    pub(crate) url: String,
}

/// A registry without any endpoint.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the registry has no endpoint")]
pub(crate) struct NoEndpoint;

impl Refused {
    /// The refusal that a fault is, if it is one.
    pub(crate) fn within(fault: &Fault) -> Option<&Self> {
        match FaultCause::of(fault) {
            FaultCause::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// Keeps what a client may need of it, without a body that is too long or incomplete.
    pub(crate) async fn read(response: Response<Body>, endpoint: &Endpoint) -> Self {
        let (parts, body) = response.into_parts();
        let body = upstream::collect(body, endpoint.authority(), BODY_LIMIT, BODY_TIME).await.unwrap_or_default();
        Self { status: parts.status, headers: bounded(parts.headers), body }
    }

    /// Whether the registry itself says so, as far as the answer shows: not a gateway before it that knows no such
    /// path, or whose registry is down. Its words are JSON with `errors` (distribution-spec, "Error Codes"); without
    /// a body, as to a HEAD, its type may not be that of a page.
    pub(crate) fn is_own_word(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Errors {
            #[expect(dead_code, reason = "that they are there is enough")]
            errors: Vec<serde::de::IgnoredAny>,
        }
        let said = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if Look::of(said) == Look::Page {
            return false; // a server before the registry may say the version on its own pages, too
        }
        if self.headers.contains_key(API_VERSION) {
            return true;
        }
        if self.body.is_empty() {
            return said.is_none_or(|said| !said.trim_start().to_ascii_lowercase().starts_with("text/"));
        }
        document::<Errors>(&self.body).is_some()
    }

    /// Whose refusal it is.
    pub(crate) fn speaker(&self) -> Speaker {
        match speaker(self.status, &self.headers) {
            Speaker::Unheard if self.is_own_word() => Speaker::Registry,
            Speaker::Unheard => Speaker::Gateway,
            said => said,
        }
    }
}

/// Whose word an answer of an upstream's is, as far as its head tells. A challenge is the registry's in any words: a server
/// that asks for its passwords in its place sends pages.
pub(crate) fn speaker(status: StatusCode, headers: &HeaderMap) -> Speaker {
    let said = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let is_known = |challenge: &Challenge| matches!(challenge, Challenge::Bearer(_) | Challenge::Basic { .. });
    if !status.is_client_error() || (status == StatusCode::UNAUTHORIZED && Challenge::parse(said).iter().any(is_known))
    {
        return Speaker::Registry;
    }
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if Look::of(media_type) == Look::Page { Speaker::Gateway } else { Speaker::Unheard }
}

/// Why the cache has no answer, of what it or this room knows. Here, and nowhere else, a fault's cause is told by
/// its type.
pub(crate) enum FaultCause<'a> {
    /// An upstream refused.
    Refused(&'a Refused),
    /// An exchange with an upstream failed.
    Upstream(&'a Error),
    /// The client is to ask elsewhere.
    HandedOver(&'a HandedOver),
    /// A host to which the registry redirected refused.
    Elsewhere(&'a Elsewhere),
    /// A request was not made, or not in the name that it needed.
    NotAsked(&'a AskError),
    /// The cache's disk failed.
    Store(&'a store::Error),
    /// The registry did not answer in time.
    NoAnswer,
    /// Anything else, for its words alone.
    Other,
}

impl<'a> FaultCause<'a> {
    pub(crate) fn of(fault: &'a Fault) -> Self {
        let cause: &(dyn StdError + 'static) = &*fault.cause;
        let upstream = cause.downcast_ref().or_else(|| cause.source()?.downcast_ref());
        if let Some(refused) = cause.downcast_ref() {
            Self::Refused(refused)
        } else if let Some(error) = upstream {
            Self::Upstream(error)
        } else if let Some(handed_over) = cause.downcast_ref() {
            Self::HandedOver(handed_over)
        } else if let Some(elsewhere) = cause.downcast_ref() {
            Self::Elsewhere(elsewhere)
        } else if let Some(ask_error) = cause.downcast_ref() {
            Self::NotAsked(ask_error)
        } else if let Some(error) = cause.downcast_ref() {
            Self::Store(error)
        } else if cause.is::<NoAnswer>() {
            Self::NoAnswer
        } else {
            Self::Other
        }
    }
}

/// Whether a fault is a 404, or a 410, of any upstream.
pub(crate) fn is_missing(fault: &Fault) -> bool {
    Refused::within(fault).is_some_and(|refused| matches!(refused.status, StatusCode::NOT_FOUND | StatusCode::GONE))
}

/// What a refusal by that status is, be it by the registry, or a host that it redirects to.
pub(crate) fn kind_of(status: StatusCode) -> FaultKind {
    if status == StatusCode::TOO_MANY_REQUESTS { FaultKind::Throttle } else { FaultKind::Other }
}

/// A head that is larger than any challenge needs is left out: what was refused is kept for a while.
fn bounded(headers: HeaderMap) -> HeaderMap {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size <= HEAD_LIMIT { headers } else { HeaderMap::new() }
}

/// An exchange that failed, as the cache understands it.
pub(crate) fn fault_of(error: Error) -> Fault {
    let retry = if error.retry() == upstream::RetryAdvice::Never { Retry::Never } else { Retry::Again };
    // The caller's credentials cannot be sent, which says nothing of the registry: no earlier answer stands in for it.
    let said = if matches!(error, Error::ConnectionBound { .. }) { Said::Refused } else { Said::Nothing };
    let unfit = matches!(error, Error::Misfit { .. });
    let kind = if matches!(error, Error::Away { .. }) { FaultKind::Away } else { FaultKind::Other };
    Fault { said, unfit, ..Fault::new(retry, error).of(kind) }
}

/// A request that was not made, or not answered, as the cache understands it.
pub(crate) fn fault_of_ask_error(ask_error: AskError) -> Fault {
    match ask_error {
        AskError::Upstream(error) => fault_of(error),
        denied if denied.is_denial() => Fault { said: Said::Denied, ..Fault::new(Retry::Never, denied) },
        AskError::Token(error) if error.is_throttle() => {
            let retry_after = error.retry_after();
            Fault { retry_after, ..Fault::new(Retry::Never, AskError::Token(error)).of(FaultKind::Throttle) }
        }
        other => Fault::new(Retry::Never, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_404_is_not_the_registrys_word() {
        let errors = r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#;
        let table = [
            ("application/json", errors, false, true),
            ("text/plain", errors, false, true),
            ("", "", false, true),
            ("application/json", "", false, true),
            ("text/plain", "default backend - 404", true, true),
            ("text/html", "<html>", false, false),
            ("text/html", "<html>", true, false),
            ("text/html; charset=utf-8", "", false, false),
            ("text/plain; charset=utf-8", "404 page not found", false, false),
            ("application/json", r#"{"message":"no Route matched with those values"}"#, false, false),
            ("application/xml", "<Error><Code>NoSuchKey</Code></Error>", false, false),
        ];
        for (media_type, body, has_version, expected) in table {
            let mut headers = HeaderMap::new();
            if !media_type.is_empty() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            }
            if has_version {
                headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
            }
            let refused = Refused { status: StatusCode::NOT_FOUND, headers, body: Bytes::from_static(body.as_bytes()) };
            assert_eq!(refused.is_own_word(), expected, "{media_type} {body}");
            assert_eq!(refused.speaker() == Speaker::Registry, expected, "{media_type} {body}");
            let asks = Refused { status: StatusCode::UNAUTHORIZED, ..refused.clone() };
            assert_eq!(asks.speaker() == Speaker::Registry, expected, "{media_type} {body}");
            let mut challenging = asks;
            for (challenge, is_known) in [("Negotiate", expected), ("Basic realm=\"r\"", true)] {
                challenging.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                assert_eq!(challenging.speaker() == Speaker::Registry, is_known, "{media_type} {body} {challenge}");
            }
        }
    }
}
