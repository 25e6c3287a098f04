//! The answer to a request for a token, on its way through us: passed on unaltered, and remembered for whom it was.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};

use super::bearers::Leg;
use super::connection::Proxy;
use crate::oci::Authority;
use crate::wire::Body;

/// An answer with a token; a longer one passes without being read.
const ANSWER_LIMIT: usize = 256 << 10;

/// Notes the tokens that `realm` answered to `leg`.
pub(super) async fn heard(
    proxy: &Proxy,
    realm: &Authority,
    leg: Option<Leg>,
    response: Response<Body>,
) -> Response<Body> {
    let Some(leg) = leg.filter(|_| response.status() == StatusCode::OK) else { return response };
    let (mut parts, body) = response.into_parts();
    let body = match ahead(body, ANSWER_LIMIT).await {
        Ahead::Whole(bytes) => {
            proxy.bearers.bind(&proxy.cache, realm, &leg, &bytes);
            parts.headers.remove(CONTENT_LENGTH); // the body that was read says it
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
