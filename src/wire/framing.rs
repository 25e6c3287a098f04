//! Frames the body of a message by the body that is sent, never by the fields that were received.
//!
//! Threat: a length that is forwarded without its bytes makes the next request on that connection part of the body
//! (request smuggling, RFC 9112, 11.2). Defence: no framing field is ever copied (RFC 9112, 6), and a body that a
//! request must not have is refused or found empty before anything is sent.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::{Body, BodyError};

/// How long to wait for the end of an empty body: it came with the head, or is about to come.
const EMPTY: Duration = Duration::from_secs(5);

/// Sets the fields that frame a request by its body, before it is sent upstream. `Expect` is handled on each side.
pub fn frame<B: HttpBody>(request: &mut Request<B>) {
    let is_empty = request.body().is_end_stream();
    let length = request.body().size_hint().exact();
    let method = request.method().clone();
    let headers = request.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(EXPECT);
    match length {
        // Servers expect a length where the method leads them to expect a body (RFC 9110, 8.6).
        _ if is_empty && matches!(method, Method::POST | Method::PUT | Method::PATCH) => {
            headers.insert(CONTENT_LENGTH, 0.into());
        }
        // Else no framing would be sent, and the bytes of the body would be read as a request.
        None if !is_empty && matches!(method, Method::GET | Method::HEAD) => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        _ => {}
    }
}

/// Removes the trailers of a request's body. Nothing checks them, and some servers treat them as fields of the head; a
/// recipient may drop them (RFC 9110, 6.5.1).
pub fn data_only(body: Body) -> Body {
    if body.is_end_stream() { body } else { Body::wrap(DataOnly(body)) }
}

struct DataOnly(Body);

impl HttpBody for DataOnly {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = Pin::new(&mut self.get_mut().0);
        body.poll_frame(cx).map(|frame| frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Whether a request that must not have a body has one. An empty body is read to its end.
pub async fn is_unexpected<B: HttpBody + Unpin>(request: &mut Request<B>) -> bool {
    if request.body().is_end_stream() {
        return false;
    }
    if request.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
        return true; // do not wait for bytes that may never come
    }
    let body = request.body_mut();
    let has_bytes = async {
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) if bytes::Buf::has_remaining(&data) => return true,
                Ok(_) => {} // trailers do not count
                Err(_) => return true,
            }
        }
        false
    };
    tokio::time::timeout(EMPTY, has_bytes).await.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    fn pieces(pieces: &[&'static str]) -> Body {
        let frames: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(*piece)))).collect();
        Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
    }

    fn framed(method: Method, body: Body) -> String {
        let request = Request::builder().method(method).header(CONTENT_LENGTH, 77).header(EXPECT, "100-continue");
        let mut request = request.header(TRANSFER_ENCODING, "gzip, chunked").body(body).unwrap();
        frame(&mut request);
        let said = |name| request.headers().get(name).map_or("-", |value: &HeaderValue| value.to_str().unwrap());
        assert!(!request.headers().contains_key(EXPECT));
        format!("{} {}", said(CONTENT_LENGTH), said(TRANSFER_ENCODING))
    }

    #[test]
    fn a_request_is_framed_by_its_body_whatever_it_said() {
        assert_eq!(framed(Method::GET, Body::empty()), "- -");
        assert_eq!(framed(Method::HEAD, Body::empty()), "- -");
        assert_eq!(framed(Method::DELETE, Body::empty()), "- -");
        assert_eq!(framed(Method::POST, Body::empty()), "0 -");
        assert_eq!(framed(Method::PUT, Body::full("abc")), "- -", "the HTTP client says it");
        assert_eq!(framed(Method::PATCH, pieces(&["abc"])), "- -", "the HTTP client says chunked");
        assert_eq!(framed(Method::GET, pieces(&["abc"])), "- chunked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_where_none_belongs_is_noticed_and_an_empty_one_is_none() {
        let stalled =
            || Body::wrap(StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>()));
        let table = [
            (None, Body::empty(), false),
            (None, pieces(&[]), false),
            (None, pieces(&["", ""]), false),
            (Some(0), pieces(&[""]), false),
            (None, pieces(&["", "a"]), true),
            (None, Body::full("a"), true),
            (None, stalled(), true),
            (Some(5), stalled(), true),
        ];
        for (at, (length, body, expected)) in table.into_iter().enumerate() {
            let mut request = Request::new(body);
            request.headers_mut().extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
            assert_eq!(is_unexpected(&mut request).await, expected, "{at}");
        }
    }
}
