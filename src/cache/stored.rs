//! Serves a stored blob to a caller, and knows where to get its bytes if the disk has lost them.
//!
//! A reader that meets damage is continued at the same byte: from the blob that took the damaged one's place, else
//! from a fill by the caller's own source.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};

use super::body::pump::Pump;
use super::caller::Caller;
use super::fill::{Entered, Fills, Follower, Waiter};
use super::source::{Fault, Retry};
use crate::oci::Digest;
use crate::store::{Blob, Damaged};
use crate::wire::{BodyError, Span};

/// After so many damaged blobs in a row the disk cannot be relied on.
const CURES: u32 = 3;

/// A committed blob that a caller may read. Cheap to clone.
#[derive(Clone)]
pub struct Stored {
    blob: Blob,
    /// Fetch the content again for this caller, should the blob be damaged.
    cure: Arc<(Arc<Fills>, Caller)>,
}

/// A span of a stored blob as a body.
pub struct BlobBody {
    stored: Stored,
    rest: Span,
    is_whole: bool,
    cures: u32,
    bytes: From,
}

enum From {
    Store(Pump<Blob>),
    Asking(BoxFuture<'static, Result<Found, Fault>>),
    Fill(Box<Follower>),
}

enum Found {
    Stored(Blob),
    Filling(Waiter),
}

impl Stored {
    pub(crate) fn new(blob: Blob, fills: Arc<Fills>, caller: Caller) -> Self {
        Self { blob, cure: Arc::new((fills, caller)) }
    }

    /// Its length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no caller asks; a length of 0 is a blob like any other")]
    pub fn len(&self) -> u64 {
        self.blob.len()
    }

    /// The bytes of `span`, which must lie within the blob.
    #[must_use]
    pub fn body(&self, span: Span) -> BlobBody {
        let is_whole = span.from == 0 && span.to == self.len();
        let bytes = From::Store(Pump::new(self.blob.clone()));
        BlobBody { stored: self.clone(), rest: span, is_whole, cures: 0, bytes }
    }

    /// The same content again, now that this blob is damaged.
    async fn again(self) -> Result<Found, Fault> {
        let (fills, caller) = &*self.cure;
        let digest: Digest = *self.blob.digest();
        loop {
            match fills.enter(&digest, caller, true, || true, |_, _| std::future::ready(())).await {
                Ok(Entered::Stored(blob)) => return Ok(Found::Stored(blob)),
                Ok(Entered::Started(waiter, _) | Entered::SameSource(waiter, _) | Entered::UnderWay(waiter)) => {
                    return Ok(Found::Filling(waiter));
                }
                Ok(Entered::Leaving(fill)) => tokio::select! {
                    () = fill.gone() => {}
                    () = fills.hang() => {}
                },
                Err(cause) => return Err(Fault::of_store(Retry::Never, cause)),
            }
        }
    }
}

impl BlobBody {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match &mut self.bytes {
                From::Store(pump) => match ready!(pump.poll_chunk(cx, self.rest)) {
                    Err(error) if is_curable(&error) && self.cures < CURES => {
                        let place = &self.stored.cure.1.place;
                        tracing::error!(
                            registry = %place.registry, repository = %place.repository,
                            digest = %self.stored.blob.digest(), at = self.rest.from,
                            "a cached blob is damaged; the client gets the rest from the registry"
                        );
                        self.cures += 1;
                        self.bytes = From::Asking(Box::pin(self.stored.clone().again()));
                    }
                    chunk => return Poll::Ready(Some(chunk.map_err(BodyError::new))),
                },
                From::Asking(asking) => {
                    self.bytes = match ready!(asking.as_mut().poll(cx)) {
                        Ok(Found::Stored(blob)) => From::Store(Pump::new(blob)),
                        Ok(Found::Filling(waiter)) => {
                            From::Fill(Box::new(Follower::of_rest(&waiter, self.rest, self.is_whole)))
                        }
                        Err(fault) => return Poll::Ready(Some(Err(BodyError::new(fault)))),
                    };
                }
                From::Fill(follower) => {
                    let frame = ready!(Pin::new(&mut **follower).poll_frame(cx));
                    return Poll::Ready(frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())));
                }
            }
        }
    }
}

/// Whether another copy of the content cures the error.
fn is_curable(error: &io::Error) -> bool {
    Damaged::of(error).is_some() || error.kind() == io::ErrorKind::UnexpectedEof
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = ready!(this.poll_bytes(cx));
        Poll::Ready(bytes.map(|bytes| {
            bytes.map(|bytes| {
                this.rest.from += bytes.len() as u64;
                Frame::data(bytes)
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len())
    }
}
