//! Tells a page from a blob that is only labelled as one: HTML begins with `<`.
//!
//! File servers behind a redirect label what they do not know in many ways, `text/html` among them, and clients take a
//! blob by its digest alone. A gateway's login or error has the same label and status.
//!
//! Threat: a page that is taken for the registry's word. Defence: what begins like one is refused, and the rest has no label
//! that would count.

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};

use crate::wire::Body;

/// So much white space may stand before a page.
const MOST: usize = 4 << 10;
/// The mark of UTF-8 at the beginning of a text.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// An answer with a blob that is labelled as a page, without that label; `None` where it is a page. A part cannot be one:
/// no gateway answers a range with its own words.
pub(crate) async fn unlabelled(answer: Response<Body>) -> Option<Response<Body>> {
    let (mut head, mut body) = answer.into_parts();
    head.headers.remove(CONTENT_TYPE);
    if head.status == StatusCode::PARTIAL_CONTENT {
        return Some(Response::from_parts(head, body));
    }
    let (mut came, mut length) = (Vec::new(), 0);
    while length < MOST {
        let frame = match body.frame().await {
            None => break,
            Some(frame) => frame.map(|frame| frame.into_data().unwrap_or_default()),
        };
        let first = frame.as_ref().ok().and_then(|data| {
            length += data.len();
            let text = data.strip_prefix(MARK).unwrap_or(data).trim_ascii_start();
            text.first().copied()
        });
        let is_over = frame.is_err() || first.is_some();
        came.push(frame.map(Frame::data));
        match first {
            Some(b'<') => return None,
            _ if is_over => break,
            _ => {}
        }
    }
    let body = Body::wrap(StreamBody::new(iter(came).chain(BodyStream::new(body))));
    Some(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn only_what_begins_like_html_is_a_page() {
        let table = [
            ("<!DOCTYPE html>", 200, false),
            (" \r\n\u{feff}<html>", 200, true), // a mark stands first, or is none
            ("\u{feff}\n<html>", 200, false),
            (" \r\n<html>", 200, false),
            ("<layer>", 206, true),
            ("\u{1f}layer", 200, true),
            ("", 200, true),
        ];
        for (text, status, is_content) in table {
            let body = Body::full(Bytes::from_static(text.as_bytes()));
            let answer = Response::builder().status(status).header(CONTENT_TYPE, "text/html").body(body).unwrap();
            let found = unlabelled(answer).await;
            assert_eq!(found.is_some(), is_content, "{text:?}");
            if let Some(found) = found {
                assert!(!found.headers().contains_key(CONTENT_TYPE), "{text:?}");
                assert_eq!(crate::wire::collect(found.into_body(), 100).await.unwrap(), text, "{text:?}");
            }
        }
    }
}
