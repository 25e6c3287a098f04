//! One lane: an upstream request, whose bytes are written where its claim says.
//!
//! A lane is never aborted: told to stop, it lets the write under way end before it lets go of its claim, so
//! that nothing is ever written late over bytes that were hashed.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::shape::Shape;
use super::writer::StagedWriter;
use crate::cache::fill::fill::Fill;
use crate::cache::fill::plan::claims::{GoOn, LaneId, Role};
use crate::cache::fill::plan::plan::LengthChanged;
use crate::cache::fill::reader::hashing::{self, ContentHash};
use crate::cache::fill::sources::FillSource;
use crate::cache::{Fault, Flow, Reach, Retry, Subject, Want, WhenFull};
use crate::host::asked_anew;
use crate::oci::Look;
use crate::wire::{Body, Span};

/// Leaving out so many bytes of a stream is cheaper than a new request.
const SKIP: u64 = 1 << 20;
/// How much a closed range asks for of a content whose length nobody has said.
const PIECE: u64 = 64 << 20;

/// A lane to be run.
pub(crate) struct Lane {
    pub(crate) id: LaneId,
    pub(crate) role: Role,
    pub(crate) source: FillSource,
    pub(crate) claim: Span,
    /// How its bytes are asked for.
    pub(crate) shape: Shape,
    pub(crate) way: usize,
    pub(crate) when_full: WhenFull,
    /// Who answered, once somebody did.
    pub(crate) endpoint: Option<Arc<str>>,
    /// How many bytes it has landed.
    pub(crate) brought: u64,
    /// What answered may be a page.
    pub(crate) is_doubtful: bool,
    /// What answered takes a coding off, so that no part can be asked for.
    pub(crate) is_coded: bool,
}

/// How a lane ended.
#[derive(Debug)]
pub(crate) enum LaneEnd {
    /// All of its claim has landed.
    Done,
    /// The answer ended where it said, and had only some of the claim's bytes.
    Short(Fault),
    /// It was told to stop, or nobody wants its bytes any more.
    Left,
    /// The upstream does not answer ranges.
    NoRanges,
    /// The upstream answers, which was all that was to be found out.
    Answers,
    /// The upstream failed.
    Failed(Fault),
    /// The disk did.
    Unstorable(Fault),
}

/// The upstream brought more bytes than it had said.
#[derive(Debug, thiserror::Error)]
#[error("the upstream sent more than the bytes that it announced")]
struct TooMuch;

/// Somebody came for the content while the upstream brought nothing.
#[derive(Debug, thiserror::Error)]
#[error("the upstream has fallen silent")]
struct Silent;

/// The upstream ended early.
#[derive(Debug, thiserror::Error)]
#[error("the upstream ended at byte {at}, {missing} bytes early")]
struct TooLittle {
    at: u64,
    missing: u64,
}

/// An answer that ends with its connection ended early, as its digest shows.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut short at byte {at}: its connection ended, and it does not say how long it is")]
struct CutShort {
    at: u64,
}

/// The upstream answered, and not with what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer has none of the requested bytes from {at} on")]
struct Nothing {
    at: u64,
}

/// The upstream's part is shorter than what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the upstream delivers at most {brought} bytes at a time")]
struct Little {
    brought: u64,
}

impl From<LengthChanged> for LaneEnd {
    fn from(changed: LengthChanged) -> Self {
        Self::Failed(Fault::new(Retry::Never, changed))
    }
}

/// Whether an upstream contradicted what is known of the content's length. Then nobody knows who was right.
pub(crate) fn is_contradiction(fault: &Fault) -> bool {
    fault.cause.is::<LengthChanged>() || fault.cause.is::<TooMuch>()
}

impl Lane {
    /// Fetches until the claim is done, the stream ends, or the fill says stop. Nothing of it is on its way to the
    /// file then; the driver releases its claim.
    pub(crate) async fn run(mut self, fill: Arc<Fill>) -> (Self, LaneEnd) {
        let end = self.fetch(&fill).await.unwrap_or_else(|end| end);
        (self, end)
    }

    async fn fetch(&mut self, fill: &Fill) -> Result<LaneEnd, LaneEnd> {
        let want = {
            let endpoints = fill.endpoints();
            let Span { from, to } = self.claim;
            let (from, to) = match self.shape {
                Shape::Rest => (from, None),
                Shape::Part => (from, Some(if to == u64::MAX { from.saturating_add(PIECE) } else { to })),
                Shape::Whole | Shape::Trial => (0, None),
            };
            Want {
                from,
                to,
                if_range: endpoints.validators(),
                way: if endpoints.may_be_mixed() { self.way } else { 0 },
                last: endpoints.last(),
                when_full: self.when_full,
                origins: self.source.caller.origins,
                resumes: fill.has_begun(),
            }
        };
        let source = &self.source.caller.source;
        let flow = tokio::select! {
            flow = asked_anew(|| source.open(fill.digest(), want.clone()), || fill.silence().hurried()) => flow.map_err(LaneEnd::Failed)?,
            () = fill.stopped() => return Ok(LaneEnd::Left),
        };
        self.endpoint.clone_from(&flow.endpoint);
        self.is_coded = flow.is_coded;
        if let Some(total) = flow.total {
            fill.staged().expect(total).map_err(|cause| LaneEnd::Unstorable(Fault::of_store(Retry::Never, cause)))?;
        }
        let was_known = fill.total();
        // Another length beside a part may be about the part; beside the whole it is about the content.
        fill.opened(&flow).map_err(|changed| match flow.to {
            Some(_) => LaneEnd::Failed(Fault::new(Retry::Again, changed).unfit()),
            None => changed.into(),
        })?;
        // Threat: a page that answers everything with 200. Of a fill that has bytes which another caller's credentials
        // brought, only an answer that knows the content's length is this caller's proof.
        let reach = flow.proof.reach(&Subject::Blob(*fill.digest()), None).unwrap_or(Reach::Content);
        self.is_doubtful = reach == Reach::Content && flow.proof.look() != Look::Content;
        let knows_it = flow.total == was_known && (was_known.is_some() || !self.is_doubtful);
        if fill.progress() == 0 || knows_it || (was_known.is_none() && !self.is_doubtful) {
            self.source.succeeded(reach);
        } else {
            self.source.proves_nothing();
        }
        // Reading from the beginning is for the last one that is left.
        if flow.ranges == Some(false) && (self.role == Role::Scout || fill.lanes(Role::Worker) > 1) {
            return Ok(LaneEnd::NoRanges);
        }
        if self.shape == Shape::Trial && self.claim.from > SKIP {
            return Ok(LaneEnd::Answers);
        }
        let stream_to = flow.to.or(flow.total);
        let is_open_ended = flow.is_open_ended;
        let mut stream = Stream {
            id: self.id,
            writer: StagedWriter::new(fill, self.claim.from),
            skip: self.claim.from.saturating_sub(flow.at),
            surplus: Bytes::new(),
            stream_to,
            limit: if flow.ranges == Some(false) || self.shape.is_whole() { u64::MAX } else { SKIP },
            began: Instant::now(),
            brought: 0,
        };
        let poured = stream.pour(fill, flow, self.role).await;
        let settled = stream.settle(fill).await;
        self.brought = stream.brought;
        settled?;
        poured?;
        // One that brings nothing beyond what an earlier one brought agrees with it about the end.
        if is_open_ended && stream.brought > 0 && fill.total().is_none() && !fill.is_stopped() {
            let at = stream.position();
            if fill.progress() != at || !is_all(fill, at).await {
                return Err(LaneEnd::Failed(Fault::new(Retry::Again, CutShort { at })));
            }
        }
        self.judge_end(fill, &stream)
    }

    /// What a stream that ended by itself is worth. One that ended where it said has not failed, even if the claim
    /// reached further; but one that brought nothing has, whatever it said.
    fn judge_end(&self, fill: &Fill, stream: &Stream) -> Result<LaneEnd, LaneEnd> {
        let (at, brought) = (stream.position(), stream.brought);
        let failed = |cause: Fault| Err(LaneEnd::Failed(cause));
        if fill.is_stopped() {
            return Ok(LaneEnd::Left);
        }
        let Some(total) = fill.total() else {
            // The end of what the upstream sends is the end of the content, but not that of a part, nor one before the
            // bytes that are there already.
            if brought == 0 && (stream.stream_to.is_some() || stream.skip > 0) {
                return failed(Fault::new(Retry::Again, Nothing { at }));
            }
            if self.shape == Shape::Part && stream.stream_to.is_some() {
                return Ok(LaneEnd::Short(Fault::new(Retry::Again, Little { brought })));
            }
            fill.learn_total(at)?;
            return Ok(LaneEnd::Done);
        };
        let rest = fill.unclaimed_rest(self.id);
        if rest == 0 {
            return Ok(LaneEnd::Done);
        }
        if self.role == Role::Scout && !fill.is_wanted(self.id) {
            return Ok(LaneEnd::Left);
        }
        let missing = stream.stream_to.unwrap_or(total).min(total).saturating_sub(at).min(rest);
        if brought == 0 {
            return failed(Fault::new(Retry::Again, Nothing { at }));
        }
        if missing > 0 {
            return failed(Fault::new(Retry::Again, TooLittle { at, missing }));
        }
        Ok(LaneEnd::Short(Fault::new(Retry::Again, Little { brought })))
    }
}

/// Whether the bytes before `at` are the whole content.
async fn is_all(fill: &Fill, at: u64) -> bool {
    let hash = ContentHash::new(fill.digest().algorithm());
    let hashed = hashing::take(hash, fill, 0, at).await;
    hashed.is_ok_and(|hash| hash.finish().0 == *fill.digest())
}

/// A stream on its way to the file.
struct Stream {
    id: LaneId,
    writer: StagedWriter,
    /// Bytes to leave out before the next one that is wanted.
    skip: u64,
    /// Bytes that came and have no place yet.
    surplus: Bytes,
    stream_to: Option<u64>,
    /// How many bytes may be left out at a time.
    limit: u64,
    began: Instant,
    brought: u64,
}

impl Stream {
    fn position(&self) -> u64 {
        self.writer.position()
    }

    async fn pour(&mut self, fill: &Fill, flow: Flow, role: Role) -> Result<(), LaneEnd> {
        let mut body: Body = flow.body;
        let mut ended = false;
        loop {
            if self.place(fill)? {
                return Ok(()); // its claim is done
            }
            if ended && self.surplus.is_empty() {
                return Ok(());
            }
            tokio::select! {
                frame = body.frame(), if !ended && self.surplus.is_empty() => match frame {
                    None => ended = true,
                    Some(Err(cause)) => return Err(LaneEnd::Failed(Fault::new(Retry::Again, cause))),
                    Some(Ok(frame)) => self.surplus = frame.into_data().unwrap_or_default(),
                },
                landed = self.writer.landed(), if self.writer.is_busy() => {
                    self.land(fill, landed.map_err(LaneEnd::Unstorable)?);
                    if role == Role::Scout && !fill.is_wanted(self.id) {
                        return Ok(()); // its readers are gone
                    }
                }
                () = fill.silence().hurried(), if !ended && self.surplus.is_empty() && !self.writer.is_busy() => {
                    return Err(LaneEnd::Failed(Fault::new(Retry::Again, Silent)));
                }
                () = fill.stopped() => return Ok(()),
            }
        }
    }

    /// Hands over what came, as far as there is room. Whether there is nothing more to do for this stream.
    fn place(&mut self, fill: &Fill) -> Result<bool, LaneEnd> {
        while !self.surplus.is_empty() && (self.skip > 0 || self.writer.has_room()) {
            let left_out = self.skip.min(self.surplus.len() as u64);
            self.surplus.advance(usize::try_from(left_out).unwrap_or(usize::MAX));
            self.skip -= left_out;
            if self.surplus.is_empty() {
                break;
            }
            let granted = fill.reserve(self.id, self.surplus.len() as u64);
            if granted > 0 {
                self.writer.push(self.surplus.split_to(usize::try_from(granted).unwrap_or(usize::MAX)));
                continue;
            }
            match fill.go_on(self.id, self.stream_to, self.limit) {
                GoOn::Skip(count) => {
                    self.skip = count;
                    self.writer.jump(count);
                }
                GoOn::Stop => return Ok(true),
                GoOn::TooMuch => return Err(LaneEnd::Failed(Fault::new(Retry::Never, TooMuch))),
            }
        }
        Ok(false)
    }

    /// Waits until nothing is on its way to the file any more.
    async fn settle(&mut self, fill: &Fill) -> Result<(), LaneEnd> {
        while self.writer.is_busy() {
            let landed = self.writer.landed().await.map_err(LaneEnd::Unstorable)?;
            self.land(fill, landed);
        }
        Ok(())
    }

    fn land(&mut self, fill: &Fill, span: Span) {
        self.brought += span.len();
        let elapsed = self.began.elapsed().as_millis();
        if let Some(rate) = (u128::from(self.brought) * 1000).checked_div(elapsed) {
            fill.measured(self.id, u64::try_from(rate).unwrap_or(u64::MAX));
        }
        fill.land(self.id, span);
    }
}
