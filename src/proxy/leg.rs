//! A request for a token on its way through us: passed on as it is, and remembered for whom the token was.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Incoming;
use zeroize::Zeroizing;

use super::bearers::Leg;
use super::connection::Proxy;
use super::forward;
use super::policy::Policy;
use super::registry::Registry;
use crate::oci::Authority;
use crate::telemetry::Kind;
use crate::upstream::Endpoint;
use crate::wire::Body;

/// A form with a password, a refresh token and scopes; a longer one passes without being read.
const FORM_LIMIT: usize = 64 << 10;
/// An answer with a token; a longer one passes without being read.
const ANSWER_LIMIT: usize = 256 << 10;

/// Passes a token request that was made to `authority` on to `endpoint`, and its answer back unaltered.
pub(super) async fn pass(
    proxy: &Proxy,
    policy: &Policy,
    registry: &Registry,
    authority: &Authority,
    endpoint: &Endpoint,
    request: Request<Incoming>,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let (form, body) = match ahead(Body::wrap(body), FORM_LIMIT).await {
        Ahead::Whole(form) => (Some(Zeroizing::new(form.to_vec())), Body::full(form)),
        Ahead::Part(body) => (None, body),
    };
    let leg = form.and_then(|form| Leg::of(&proxy.cache, &parts.method, &parts.uri, &parts.headers, &form));
    // So that the answer can be read; it is small.
    parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let asked = Request::from_parts(parts, body);
    let response = forward::pass(proxy, policy, registry, endpoint, Kind::Token, asked).await;
    let Some(leg) = leg.filter(|_| response.status() == StatusCode::OK) else { return response };
    let (parts, body) = response.into_parts();
    let body = match ahead(body, ANSWER_LIMIT).await {
        Ahead::Whole(bytes) => {
            proxy.bearers.bind(&proxy.cache, authority, &leg, &bytes);
            Body::full(bytes)
        }
        Ahead::Part(body) => body,
    };
    Response::from_parts(parts, body)
}

/// A body that was looked into.
enum Ahead {
    /// All of it.
    Whole(Bytes),
    /// It is too long, or broke: the body as it was.
    Part(Body),
}

async fn ahead(mut body: Body, limit: usize) -> Ahead {
    let mut read = BytesMut::new();
    loop {
        let next = match body.frame().await {
            None => return Ahead::Whole(read.freeze()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if read.len() + data.len() <= limit => {
                    read.extend_from_slice(&data);
                    continue;
                }
                Ok(data) => Ok(Frame::data(data)),
                Err(trailers) => Ok(trailers),
            },
            Some(Err(error)) => Err(error),
        };
        let before = futures_util::stream::iter([Ok(Frame::data(read.freeze())), next]);
        return Ahead::Part(Body::wrap(StreamBody::new(before.chain(BodyStream::new(body)))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::collect;

    #[tokio::test]
    async fn a_body_is_read_whole_or_passes_as_it_was() {
        let pieces = || {
            let pieces = [&b"abc"[..], b"def", b"ghi"].map(|piece| Ok::<_, std::io::Error>(Frame::data(piece.into())));
            Body::wrap(StreamBody::new(futures_util::stream::iter(pieces)))
        };
        let Ahead::Whole(bytes) = ahead(pieces(), 9).await else { panic!("it fits") };
        assert_eq!(bytes, "abcdefghi");
        for limit in [0, 2, 3, 8] {
            let Ahead::Part(body) = ahead(pieces(), limit).await else { panic!("it does not fit") };
            assert_eq!(collect(body, 100).await.unwrap(), "abcdefghi", "{limit}");
        }
    }
}
