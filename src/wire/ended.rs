//! Passes a body on as it comes, and tells its observer whether it came whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Body, BodyError};

/// A body whose end is told: `true` once it has come whole, `false` when it breaks off. A reader that leaves before that says
/// nothing of it.
pub struct Ended<F> {
    body: Body,
    /// Bytes to come, where that is known: a server that has sent so many asks for no more, although the body has not said
    /// that it has ended.
    left: Option<u64>,
    tell: Option<F>,
}

impl<F: FnOnce(bool) + Unpin> Ended<F> {
    /// Tells how `body` ends. `length` is what `Content-Length` says.
    pub fn new(body: Body, length: Option<u64>, tell: F) -> Self {
        let left = length.or_else(|| http_body::Body::size_hint(&body).exact());
        Self { body, left, tell: Some(tell) }
    }

    fn end(&mut self, is_whole: bool) {
        if let Some(tell) = self.tell.take() {
            tell(is_whole);
        }
    }
}

impl<F: FnOnce(bool) + Unpin> http_body::Body for Ended<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let came = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(came));
                if self.left == Some(0) || self.body.is_end_stream() {
                    self.end(true);
                }
            }
            Some(Err(_)) => self.end(false),
            None => self.end(true),
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

    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn observed(body: Body) -> (Body, Arc<Mutex<Option<bool>>>) {
        let told = Arc::new(Mutex::new(None));
        let tell = told.clone();
        (Body::wrap(Ended::new(body, None, move |is_whole| *tell.lock().unwrap() = Some(is_whole))), told)
    }

    fn streamed(pieces: &[Result<&'static str, ()>]) -> Body {
        let frames: Vec<_> = pieces
            .iter()
            .map(|piece| piece.map(|text| Frame::data(text.into())).map_err(|()| std::io::Error::other("cut")))
            .collect();
        Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn what_came_whole_or_broke_off_is_told_once_and_what_was_left_is_not() {
        for (pieces, expected) in
            [(&[Ok("abc"), Ok("def")][..], Some(true)), (&[], Some(true)), (&[Ok("abc"), Err(())], Some(false))]
        {
            let (body, told) = observed(streamed(pieces));
            let _ = body.collect().await;
            assert_eq!(*told.lock().unwrap(), expected, "{pieces:?}");
        }
        let (mut body, told) = observed(streamed(&[Ok("abc"), Ok("def")]));
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(*told.lock().unwrap(), None);
    }

    #[tokio::test]
    async fn the_last_byte_of_a_known_length_is_the_end() {
        let (mut body, told) = observed(Body::full("abc"));
        body.frame().await.unwrap().unwrap();
        assert_eq!(*told.lock().unwrap(), Some(true));
    }
}
