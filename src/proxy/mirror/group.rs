//! Asks the registries behind one name in order: a 404 or a refusal asks the next, no other fault does.
//!
//! Threat (dependency confusion): a registry further down answers for a name of one above it. Defence: one that cannot
//! answer ends the question, so nobody takes its names over while it is away; a member may be bounded to repositories, and a
//! tag is asked for in the configured order always. Exposure: a name that the registries above do not have is the next one's.

use std::time::Duration;

use http::{Response, StatusCode};

use crate::oci::{Digest, Reference, Route};
use crate::proxy::respond::Rendered;
use crate::wire::{Body, collect_within};

/// A registry's refusal is short.
const REFUSAL: usize = 64 << 10;
const READ: Duration = Duration::from_secs(2);

/// The digest that a route asks for. The members may have the same content under it and no other.
pub(super) fn digest(route: &Route) -> Option<Digest> {
    match route {
        Route::Blob(_, digest) | Route::Manifest(_, Reference::Digest(digest)) | Route::Referrers(_, digest) => {
            Some(*digest)
        }
        _ => None,
    }
}

/// Whether the next registry is asked.
pub(super) fn asks_the_next(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
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

/// Reads the answer to its end, so that its connection is free while others are asked.
pub(super) async fn read_off(rendered: Rendered) -> Rendered {
    let (mut parts, body) = rendered.response.into_parts();
    let body = match collect_within(body, REFUSAL, READ).await {
        Ok(bytes) => Body::full(bytes),
        Err(_) => {
            parts.headers.remove(http::header::CONTENT_LENGTH);
            Body::empty()
        }
    };
    Rendered { response: Response::from_parts(parts, body), ..rendered }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_or_refused_asks_the_next() {
        for asks in [404, 401, 403] {
            assert!(asks_the_next(StatusCode::from_u16(asks).unwrap()), "{asks}");
        }
        for ends in [200, 206, 304, 307, 400, 405, 416, 421, 429, 500, 502, 503, 504] {
            assert!(!asks_the_next(StatusCode::from_u16(ends).unwrap()), "{ends}");
        }
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
