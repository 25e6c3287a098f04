//! Passes a body on as it comes, and hands a copy to its observer once it has ended as it should.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::{Body, BodyError};

/// A body of which a copy is made. One that breaks off, or is longer than `limit`, is told to nobody.
pub struct Noted<F> {
    body: Body,
    copy: Option<BytesMut>,
    length: Option<usize>,
    limit: usize,
    note: Option<F>,
}

impl<F: FnOnce(Bytes) + Unpin> Noted<F> {
    /// Copies up to `limit` bytes of `body` for `note`. `length` is what `Content-Length` says: a server that has sent so
    /// many asks for no more, although the body has not said that it has ended.
    pub fn new(body: Body, length: Option<usize>, limit: usize, note: F) -> Self {
        Self { body, copy: Some(BytesMut::new()), length, limit, note: Some(note) }
    }

    fn end(&mut self) {
        if let (Some(copy), Some(note)) = (self.copy.take(), self.note.take()) {
            note(copy.freeze());
        }
    }
}

impl<F: FnOnce(Bytes) + Unpin> http_body::Body for Noted<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let limit = self.limit;
        match &frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                self.copy = self.copy.take().filter(|copy| copy.len() + data.len() <= limit);
                if let Some(copy) = &mut self.copy {
                    copy.extend_from_slice(data);
                }
                let is_whole = self.copy.as_ref().is_some_and(|copy| Some(copy.len()) == self.length);
                if is_whole || self.body.is_end_stream() {
                    self.end();
                }
            }
            Some(Err(_)) => self.copy = None,
            None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http_body_util::StreamBody;

    use super::*;
    use crate::wire::collect;

    async fn noted(pieces: &[Result<&'static str, ()>], limit: usize) -> (bool, Option<Bytes>) {
        let told = Arc::new(Mutex::new(None));
        let frames: Vec<_> = pieces
            .iter()
            .map(|piece| piece.map(|text| Frame::data(text.into())).map_err(|()| std::io::Error::other("cut")))
            .collect();
        let body = Body::wrap(StreamBody::new(futures_util::stream::iter(frames)));
        let tell = told.clone();
        let body = Body::wrap(Noted::new(body, None, limit, move |bytes| *tell.lock().unwrap() = Some(bytes)));
        let passed = collect(body, 100).await.is_ok();
        let told = told.lock().unwrap().take();
        (passed, told)
    }

    #[tokio::test]
    async fn what_ends_as_it_should_is_told_whole_and_nothing_else_is() {
        assert_eq!(noted(&[Ok("abc"), Ok("def")], 6).await, (true, Some("abcdef".into())));
        assert_eq!(noted(&[], 6).await, (true, Some(Bytes::new())));
        assert_eq!(noted(&[Ok("abc"), Ok("defg")], 6).await, (true, None));
        assert_eq!(noted(&[Ok("abc"), Err(())], 6).await, (false, None));
        let told = Arc::new(Mutex::new(None));
        let tell = told.clone();
        let full = Noted::new(Body::full("abc"), None, 3, move |bytes| *tell.lock().unwrap() = Some(bytes));
        assert_eq!(collect(Body::wrap(full), 3).await.unwrap(), "abc");
        assert_eq!(told.lock().unwrap().take(), Some("abc".into()));
    }

    #[tokio::test]
    async fn what_is_as_long_as_was_said_is_told_before_it_has_ended() {
        use http_body_util::BodyExt;
        let told = Arc::new(Mutex::new(None));
        let tell = told.clone();
        let pieces = ["ab", "c"].map(|text| Ok::<_, std::io::Error>(Frame::data(Bytes::from(text))));
        let body = Body::wrap(StreamBody::new(futures_util::stream::iter(pieces)));
        let mut body = Noted::new(body, Some(3), 3, move |bytes| *tell.lock().unwrap() = Some(bytes));
        for expected in [None, Some("abc".into())] {
            body.frame().await.unwrap().unwrap();
            assert_eq!(told.lock().unwrap().clone(), expected);
        }
    }
}
