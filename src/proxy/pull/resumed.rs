//! Takes up the rest of a blob that is passed on without being stored, where its answer is cut.
//!
//! A download into the cache resumes by itself; this is for what the cache does not take, as it is larger than
//! `cache.max_size` or the disk is faulty. Never: bytes of another length than was announced.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tracing::debug;

use super::ask::Ask;
use crate::cache::{Fault, FaultKind, Flow, Retry, Source, Validator, Want};
use crate::host::Backoff;
use crate::oci::Digest;
use crate::wire::{Body, BodyError};

/// So many tries in a row bring nothing, and it is given up.
const TRIES: u32 = 5;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// The longest that a throttle is waited for: the client waits behind it.
const LONGEST: Duration = Duration::from_secs(15);

/// The answer ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer ended at byte {0}, before its end")]
struct Short(u64);

struct Rest {
    ask: Arc<Ask>,
    digest: Digest,
    want: Want,
    body: Body,
    at: u64,
    /// How many bytes of `body` lie before `at`.
    skip: u64,
    end: u64,
    total: Option<u64>,
    in_vain: u32,
    is_over: bool,
}

/// The same answer, whose rest is asked for again where it is cut. As it came where it does not say how long it is.
pub(super) fn resumed(ask: Arc<Ask>, digest: Digest, want: Want, flow: Flow) -> Flow {
    let Some(end) = flow.to.or(flow.total).filter(|end| !flow.is_coded && *end > flow.at) else { return flow };
    let if_range: Vec<Validator> = flow.validator.iter().cloned().collect();
    let want = Want { to: flow.to, if_range, resumes: true, ..want };
    let (at, total) = (flow.at, flow.total);
    let rest = Rest { ask, digest, want, body: flow.body, at, skip: 0, end, total, in_vain: 0, is_over: false };
    let frames = unfold(rest, |mut rest| async move {
        let next = rest.next().await?;
        Some((next.map(Frame::data), rest))
    });
    Flow { body: Body::wrap(StreamBody::new(Box::pin(frames))), ..flow }
}

impl Rest {
    async fn next(&mut self) -> Option<Result<bytes::Bytes, BodyError>> {
        while !self.is_over && self.at < self.end {
            let cause = match self.body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(mut bytes) = frame.into_data() else { continue };
                    let left_out = self.skip.min(bytes.len() as u64);
                    bytes.advance(usize::try_from(left_out).unwrap_or(usize::MAX));
                    self.skip -= left_out;
                    bytes.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
                    if bytes.is_empty() {
                        continue;
                    }
                    self.at += bytes.len() as u64;
                    self.in_vain = 0;
                    return Some(Ok(bytes));
                }
                Some(Err(cause)) => cause,
                None => BodyError::new(Short(self.at)),
            };
            if !self.reopen().await {
                self.is_over = true;
                return Some(Err(cause));
            }
        }
        None
    }

    /// Asks for the rest. Whether it is there.
    async fn reopen(&mut self) -> bool {
        let mut wait = Duration::ZERO;
        while self.in_vain < TRIES {
            tokio::time::sleep(wait.max(BACKOFF.nth(self.in_vain))).await;
            self.in_vain += 1;
            let want = Want { from: self.at, way: self.in_vain as usize, ..self.want.clone() };
            match self.ask.open(&self.digest, want).await {
                Ok(flow) if flow.at <= self.at && !flow.is_coded && flow.total == self.total => {
                    self.skip = self.at - flow.at;
                    self.body = flow.body;
                    return true;
                }
                Ok(_) => return false,
                Err(fault) if is_final(&fault) => return false,
                Err(fault) => {
                    debug!(digest = %self.digest, at = self.at, %fault, "could not resume a blob that is not stored");
                    wait = fault.retry_after.unwrap_or_default();
                    if wait > LONGEST {
                        return false;
                    }
                }
            }
        }
        false
    }
}

fn is_final(fault: &Fault) -> bool {
    fault.retry == Retry::Never && fault.kind != FaultKind::Throttle
}
