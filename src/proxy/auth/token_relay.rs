//! Passes the answer to a request for a token on unaltered, and remembers whose token it is.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};

use crate::oci::Authority;
use crate::proxy::served::ServedAnswer;
use crate::proxy::state::Proxy;
use crate::proxy::tokens::bearers::TokenBinding;
use crate::wire::Body;

/// No answer with a token is longer; a longer one passes unread.
const ANSWER_LIMIT: usize = 256 << 10;

/// The answer of a token service.
pub(crate) enum Heard {
    /// Any answer, passed on.
    Answer(ServedAnswer),
    /// A 200 that broke off or has no token in it, to a request for one: the service does not work.
    NoToken(ServedAnswer),
}

impl Heard {
    /// The answer as it came.
    pub(crate) fn answer(self) -> ServedAnswer {
        let (Self::Answer(answer) | Self::NoToken(answer)) = self;
        answer
    }
}

/// Notes the tokens that `issuer` answered to `binding`.
pub(crate) async fn heard(
    proxy: &Proxy,
    issuer: &Authority,
    binding: Option<TokenBinding>,
    answer: ServedAnswer,
) -> Heard {
    let (binding, response) = match (binding, answer) {
        (Some(binding), ServedAnswer::Message(response)) if response.status() == StatusCode::OK => (binding, response),
        (_, answer) => return Heard::Answer(answer),
    };
    let (mut parts, body) = response.into_parts();
    match ahead(body, ANSWER_LIMIT).await {
        Ahead::Whole(bytes) => {
            let has_token = proxy.bearers.bind(&proxy.cache, issuer, &binding, &bytes);
            parts.headers.remove(CONTENT_LENGTH); // the body that was read says it
            let answer = Response::from_parts(parts, Body::full(bytes)).into();
            if has_token { Heard::Answer(answer) } else { Heard::NoToken(answer) }
        }
        Ahead::Long(body) => Heard::Answer(Response::from_parts(parts, body).into()),
        Ahead::Broken(body) => Heard::NoToken(Response::from_parts(parts, body).into()),
    }
}

/// A body of which the beginning was read.
enum Ahead {
    /// All of it.
    Whole(Bytes),
    /// It is too long: the body as it was.
    Long(Body),
    /// It broke: the same.
    Broken(Body),
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
        let is_broken = next.is_err();
        let before = futures_util::stream::iter([Ok(Frame::data(read.freeze())), next]);
        let body = Body::wrap(StreamBody::new(before.chain(BodyStream::new(body))));
        return if is_broken { Ahead::Broken(body) } else { Ahead::Long(body) };
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
            let Ahead::Long(body) = ahead(pieces(), limit).await else { panic!("it does not fit") };
            assert_eq!(collect(body, 100).await.unwrap(), "abcdefghi", "{limit}");
        }
        let cut = [Ok(Frame::data(Bytes::from_static(b"abc"))), Err(std::io::Error::other("cut"))];
        let cut = Body::wrap(StreamBody::new(futures_util::stream::iter(cut)));
        let Ahead::Broken(body) = ahead(cut, 9).await else { panic!("it broke") };
        assert!(collect(body, 100).await.is_err());
    }
}
