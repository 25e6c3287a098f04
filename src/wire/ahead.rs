//! Reads the beginning of a body: a short one whole, and a longer one passes as it was.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};

use super::Body;

/// A body of which the beginning was read.
pub enum Ahead {
    /// All of it.
    Whole(Bytes),
    /// It is too long: the body as it was.
    Long(Body),
    /// It broke: the same.
    Broken(Body),
}

impl Ahead {
    /// Reads `limit` bytes at most.
    pub async fn read(mut body: Body, limit: usize) -> Self {
        let mut read = BytesMut::new();
        loop {
            let next = match body.frame().await {
                None => return Self::Whole(read.freeze()),
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
            return if is_broken { Self::Broken(body) } else { Self::Long(body) };
        }
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
        let Ahead::Whole(bytes) = Ahead::read(pieces(), 9).await else { panic!("it fits") };
        assert_eq!(bytes, "abcdefghi");
        for limit in [0, 2, 3, 8] {
            let Ahead::Long(body) = Ahead::read(pieces(), limit).await else { panic!("it does not fit") };
            assert_eq!(collect(body, 100).await.unwrap(), "abcdefghi", "{limit}");
        }
        let cut = [Ok(Frame::data(Bytes::from_static(b"abc"))), Err(std::io::Error::other("cut"))];
        let cut = Body::wrap(StreamBody::new(futures_util::stream::iter(cut)));
        let Ahead::Broken(body) = Ahead::read(cut, 9).await else { panic!("it broke") };
        assert!(collect(body, 100).await.is_err());
    }
}
