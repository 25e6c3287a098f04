//! Asks the registries behind one name in order: a registry's own word that it has nothing, or gives nothing, asks the next;
//! no other fault does.
//!
//! Threat (dependency confusion): a registry further down answers for a name of one above it. Defence: one that cannot
//! answer ends the question, so nobody takes its names over while it is away, be it that a server before it answers with a
//! page of its own; so does a rule of this proxy; a member may be bounded to repositories, and what no digest verifies is
//! asked for in the configured order always. Exposure: a name that the registries above do not have is the next one's.
//!
//! A registry without an endpoint for referrers says so in words of its server's, and clients then look for a tag. That asks
//! the next, unless it is a page, which is then the answer.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use crate::oci::{Authority, Code, Digest, Look, Reference, Route};
use crate::proxy::answer::Refused;
use crate::proxy::respond::{Failure, Rendered, Speaker};
use crate::wire::{Body, collect_within};

/// A registry's refusal is short.
const REFUSAL: usize = 64 << 10;
const READ: Duration = Duration::from_secs(2);

/// What an answer of a member's means for the question.
pub(super) enum MemberAnswer {
    /// It is the answer.
    Ends(Rendered),
    /// The member has it not, or does not give it: the next one is asked.
    Next(Rendered),
    /// A server answers in its place.
    Doubted(StatusCode),
}

/// The digest whose content a route asks for. The members may have the same under it and no other; a list of what refers to
/// it is none.
pub(super) fn digest(route: &Route) -> Option<Digest> {
    match route {
        Route::Blob(_, digest) | Route::Manifest(_, Reference::Digest(digest)) => Some(*digest),
        _ => None,
    }
}

/// Whether the answer to `route` is content, which its digest verifies.
pub(super) fn is_content(route: &Route) -> bool {
    matches!(route, Route::Blob(..) | Route::Manifest(..))
}

/// Whether it answers nothing of what was asked for; a range that the content does not have is an answer.
pub(super) fn is_fault(status: StatusCode) -> bool {
    (status.is_client_error() || status.is_server_error()) && status != StatusCode::RANGE_NOT_SATISFIABLE
}

/// Judges an answer to a question by `route`, of a member that may be away. One that is not the last is read to its end, so that its connection is free
/// while others are asked.
pub(super) async fn heard(route: &Route, rendered: Rendered, is_away: bool) -> MemberAnswer {
    let status = rendered.response.status();
    let refuses = matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    // What is held for a registry and refused by its token service is a 401 in the proxy's words.
    let is_ours = rendered.speaker == Speaker::Proxy && status != StatusCode::UNAUTHORIZED;
    if !refuses || is_away || is_ours {
        return MemberAnswer::Ends(rendered);
    }
    let (rendered, body) = read_off(rendered).await;
    let is_own_word = match rendered.speaker {
        Speaker::Registry | Speaker::Proxy => true,
        Speaker::Gateway => false,
        Speaker::Unheard => {
            let headers = rendered.response.headers().clone();
            Refused { status, headers, body }.speaker() == Speaker::Registry
        }
    };
    let is_no_endpoint = matches!(route, Route::Referrers(..)) && status == StatusCode::NOT_FOUND;
    match is_own_word {
        true => MemberAnswer::Next(rendered),
        false if is_no_endpoint && is_page(&rendered.response) => MemberAnswer::Ends(rendered),
        false if is_no_endpoint => MemberAnswer::Next(rendered),
        false => MemberAnswer::Doubted(status),
    }
}

/// The answer where a server answers in the place of the registry at `authority`.
pub(super) fn doubted(authority: &Authority, status: StatusCode) -> Failure {
    let host = authority.short(443);
    let message = format!(
        "{host} answers {status} in words that are not a registry's: no other registry of this name is asked in its place"
    );
    Failure::new(StatusCode::BAD_GATEWAY, Code::Unavailable, "http_protocol_error", message)
}

fn is_page(response: &Response<Body>) -> bool {
    Look::of(response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok())) == Look::Page
}

/// The better one of two answers that ask the next: that it is not there, since a client goes on from that (to an image
/// without a signature, say), else the first.
pub(super) fn better<T>(kept: Option<T>, next: T, status: impl Fn(&T) -> StatusCode) -> T {
    let is_missing = |answer: &T| status(answer) == StatusCode::NOT_FOUND;
    match kept {
        Some(kept) if is_missing(&kept) || !is_missing(&next) => kept,
        _ => next,
    }
}

/// Reads an answer to its end, so that its connection is free while others are asked. Answers with what it says, too.
pub(super) async fn read_off(rendered: Rendered) -> (Rendered, Bytes) {
    let (mut parts, body) = rendered.response.into_parts();
    let bytes = match collect_within(body, REFUSAL, READ).await {
        Ok(bytes) => bytes,
        Err(_) => {
            parts.headers.remove(http::header::CONTENT_LENGTH);
            Bytes::new()
        }
    };
    let response = Response::from_parts(parts, Body::full(bytes.clone()));
    (Rendered { response, ..rendered }, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an answer means: that it ends the question, asks the next, or is doubted.
    async fn meant(
        path: &str,
        status: u16,
        (media_type, body): (&str, &'static str),
        speaker: Speaker,
    ) -> &'static str {
        let mut response = Response::builder().status(status);
        if !media_type.is_empty() {
            response = response.header(CONTENT_TYPE, media_type);
        }
        let response = response.body(Body::full(body)).unwrap();
        let heard = heard(&Route::parse(path).unwrap(), Rendered { speaker, ..response.into() }, false).await;
        match heard {
            MemberAnswer::Ends(_) => "ends",
            MemberAnswer::Next(rendered) => {
                let (_, bytes) = read_off(rendered).await;
                assert_eq!(bytes, body, "it may be the answer yet");
                "next"
            }
            MemberAnswer::Doubted(said) => {
                assert_eq!(said.as_u16(), status);
                "doubted"
            }
        }
    }

    const TAG: &str = "/v2/a/manifests/1";
    const JSON: (&str, &str) = ("application/json", r#"{"errors":[{"code":"DENIED"}]}"#);
    const PAGE: (&str, &str) = ("text/html", "<html>default backend</html>");
    const TEXT: (&str, &str) = ("text/plain; charset=utf-8", "404 page not found");

    #[tokio::test]
    async fn only_what_is_missing_or_refused_by_the_registry_itself_asks_the_next() {
        for status in [404, 401, 403] {
            for (words, speaker, expected) in [
                (JSON, Speaker::Unheard, "next"),
                (("", ""), Speaker::Unheard, "next"),
                (("application/json", ""), Speaker::Unheard, "next"),
                (("", ""), Speaker::Registry, "next"),
                (PAGE, Speaker::Registry, "next"),
                (PAGE, Speaker::Unheard, "doubted"),
                (PAGE, Speaker::Gateway, "doubted"),
                (TEXT, Speaker::Unheard, "doubted"),
                (("text/html", ""), Speaker::Unheard, "doubted"),
                (JSON, Speaker::Proxy, if status == 401 { "next" } else { "ends" }),
            ] {
                assert_eq!(meant(TAG, status, words, speaker).await, expected, "{status} {words:?} {speaker:?}");
            }
        }
        for status in [200, 206, 304, 307, 400, 405, 416, 421, 429, 500, 502, 503, 504] {
            assert_eq!(meant(TAG, status, JSON, Speaker::Unheard).await, "ends", "{status}");
        }
    }

    #[tokio::test]
    async fn a_registry_without_referrers_asks_the_next_and_a_page_in_its_place_is_the_answer() {
        let path = format!("/v2/a/referrers/sha256:{}", "0".repeat(64));
        for (status, words, expected) in [
            (404, TEXT, "next"),
            (404, JSON, "next"),
            (404, PAGE, "ends"),
            (403, PAGE, "doubted"),
            (403, TEXT, "doubted"),
        ] {
            assert_eq!(meant(&path, status, words, Speaker::Unheard).await, expected, "{status} {words:?}");
        }
        assert_eq!(digest(&Route::parse(&path).unwrap()), None, "what refers to a digest is no content of it");
    }

    #[test]
    fn missing_is_told_rather_than_refused_and_else_the_first() {
        let told = |statuses: &[u16]| {
            let all = statuses.iter().map(|status| StatusCode::from_u16(*status).unwrap());
            all.fold(None, |kept, next| Some(better(kept, next, |status| *status))).unwrap().as_u16()
        };
        for (statuses, expected) in
            [(&[404][..], 404), (&[401, 404], 404), (&[404, 401], 404), (&[401, 403], 401), (&[403, 401, 404], 404)]
        {
            assert_eq!(told(statuses), expected, "{statuses:?}");
        }
    }
}
