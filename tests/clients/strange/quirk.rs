//! Ways for a site to be strange: an answer of its own, or the program's answer changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::lab::{Body, Quirk, plain};

type Instead = Box<dyn Fn(&Parts) -> Option<Response<Body>> + Send + Sync>;
type Change = Box<dyn Fn(&Parts, Response<Body>) -> Response<Body> + Send + Sync>;

/// A quirk out of two functions.
struct Made {
    instead: Instead,
    change: Change,
}

impl Quirk for Made {
    fn instead(&self, head: &Parts) -> Option<Response<Body>> {
        (self.instead)(head)
    }

    fn change(&self, head: &Parts, answer: Response<Body>) -> Response<Body> {
        (self.change)(head, answer)
    }
}

/// A site that answers some requests by itself.
pub(super) fn instead(answer: impl Fn(&Parts) -> Option<Response<Body>> + Send + Sync + 'static) -> Arc<dyn Quirk> {
    Arc::new(Made { instead: Box::new(answer), change: Box::new(|_, answer| answer) })
}

/// A site that changes answers.
pub(super) fn change(
    change: impl Fn(&Parts, Response<Body>) -> Response<Body> + Send + Sync + 'static,
) -> Arc<dyn Quirk> {
    Arc::new(Made { instead: Box::new(|_| None), change: Box::new(change) })
}

/// Refuses HEAD by `status` where the path contains `part`.
pub(super) fn refuse_head(status: u16, part: &'static str) -> Arc<dyn Quirk> {
    instead(move |head| {
        let refused = head.method == Method::HEAD && head.uri.path().contains(part);
        refused.then(|| answer(status))
    })
}

/// Changes a field of the answers to manifests, of HEAD alone or of both methods: another value, or none.
pub(super) fn manifest_field(only_head: bool, name: HeaderName, value: Option<&'static str>) -> Arc<dyn Quirk> {
    change(move |head, mut answer| {
        let asked = head.uri.path().contains("/manifests/") && (!only_head || head.method == Method::HEAD);
        if asked && answer.status().is_success() {
            answer.headers_mut().remove(&name);
            if let Some(value) = value {
                answer.headers_mut().insert(&name, HeaderValue::from_static(value));
            }
        }
        answer
    })
}

/// Breaks the first long answer off after `kept` bytes, and answers the first `refusals` ranges that begin later by `status`.
pub(super) fn cut(kept: usize, status: u16, refusals: usize) -> Arc<dyn Quirk> {
    let (answers, ranges) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(Made {
        instead: Box::new(move |head| {
            let later = head.headers.get(RANGE).is_some_and(|range| !range.as_bytes().starts_with(b"bytes=0-"));
            let refused = later && ranges.fetch_add(1, Ordering::Relaxed) < refusals;
            refused.then(|| answer(status))
        }),
        change: Box::new(move |head, answer| {
            let long = answer.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
            let is_first = head.method == Method::GET
                && long.is_some_and(|length: usize| length > kept)
                && answers.fetch_add(1, Ordering::Relaxed) == 0;
            if is_first { answer.map(|body| broken(body, kept)) } else { answer }
        }),
    })
}

/// Breaks off each answer after `kept` bytes.
pub(super) fn cut_each(kept: usize) -> Arc<dyn Quirk> {
    change(move |_, answer| answer.map(|body| broken(body, kept)))
}

/// Answers the first GET of each path by a status and `Retry-After`.
pub(super) fn throttle(status: u16, retry_after: &'static str) -> Arc<dyn Quirk> {
    let count = AtomicUsize::new(0);
    instead(move |head| {
        let first = head.uri.path().contains("/manifests/") && count.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| {
            let mut answer = answer(status);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(retry_after));
            answer
        })
    })
}

/// Answers what is under `/v2/` by a redirect to the same path at `host`.
pub(super) fn redirect(part: &'static str, host: &'static str) -> Arc<dyn Quirk> {
    instead(move |head| {
        let path = head.uri.path();
        (path.starts_with("/v2/") && path.contains(part)).then(|| {
            let mut answer = plain(StatusCode::TEMPORARY_REDIRECT, "");
            answer.headers_mut().insert(LOCATION, format!("https://{host}{path}").parse().unwrap());
            answer
        })
    })
}

/// An answer with an error body as registries write it.
pub(super) fn answer(status: u16) -> Response<Body> {
    let mut answer = plain(
        StatusCode::from_u16(status).unwrap(),
        r#"{"errors":[{"code":"UNKNOWN","message":"a strange registry"}]}"#,
    );
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The first `kept` bytes of a body. The announced length is longer: the connection or the stream breaks there.
fn broken(body: Body, kept: usize) -> Body {
    let frames = futures_util::stream::unfold((body, kept), |(mut body, left)| async move {
        if left == 0 {
            return None;
        }
        let mut data = body.frame().await?.ok()?.into_data().ok()?;
        data.truncate(left);
        let left = left - data.len();
        Some((Ok(Frame::data(data)), (body, left)))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames.boxed()))
}
