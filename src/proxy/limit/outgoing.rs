//! Counts the bytes of an answer until they have left, and holds them back where too many wait.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Frame, SizeHint};

use super::stream::{Piece, Stream};
use crate::wire::{Body, BodyError};

/// The body of a stream's answer.
pub(crate) struct Outgoing {
    body: Body,
    stream: Arc<Stream>,
    /// All of it is on its way; what it was read from is closed.
    is_out: bool,
}

impl Outgoing {
    pub(crate) fn new(body: Body, stream: Arc<Stream>) -> Self {
        Self { body, stream, is_out: false }
    }

    /// Whether the end is held back until most of it is taken: with the end a stream of HTTP/2 is out of our hands, and
    /// what lies there could not be given up.
    fn holds_end(&self) -> bool {
        self.stream.of.is_some() && !self.stream.has_little()
    }
}

impl http_body::Body for Outgoing {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let this = self.get_mut();
        if this.is_out {
            if this.stream.of.is_some() {
                ready!(this.stream.poll_little(cx));
            }
            return Poll::Ready(None);
        }
        ready!(this.stream.poll_room(cx));
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx)).transpose()?;
        let frame = frame.map(|frame| frame.map_data(|bytes| this.stream.piece(bytes)));
        if frame.is_none() || this.body.is_end_stream() {
            this.is_out = true;
            this.body = Body::empty();
        }
        if frame.is_none() {
            return Pin::new(this).poll_frame(cx);
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.holds_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
