//! Reads answers whole into memory, within a budget for all of them and for each host.
//!
//! Threat: a registry sends most of each of many manifests and then a byte now and then; who asked for them has long left.
//! Bound: so many bytes in all, a quarter of them of one host; and one that stands still while it holds much is left.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::host::BUFFERS;
use crate::oci::Authority;
use crate::upstream::Error;
use crate::upstream::error::Broken;
use crate::upstream::net::downloads::Hosts;
use crate::wire::{Body, BodyError, TooLong, TooSlow};

/// The unit of the count.
const PAGE: usize = 4 << 10;
/// There is room for so much in any case, and of one host for the largest manifest.
const LEAST: usize = 32 << 20;
const LEAST_EACH: usize = 17 << 20;
/// How long room is waited for: shorter than any deadline after which a registry would be blamed.
const WAIT: Duration = Duration::from_secs(1);
/// One that holds more than this brings as much again in such a time, or is left.
const MUCH: usize = 64 << 10;
const STALL: Duration = Duration::from_secs(20);

static ANSWERS: LazyLock<Answers> = LazyLock::new(|| Answers::new(BUFFERS.budget().max(LEAST)));

/// How many bytes such answers hold, and how many they may.
#[must_use]
pub fn answers_held() -> (usize, usize) {
    ANSWERS.held()
}

/// Reads a whole body of at most `limit` bytes, within `time`, that was asked of this host.
///
/// # Errors
/// [`TooLong`], [`TooSlow`], [`Error::Full`] (see [`Error::of_body`]), or what broke the body.
pub async fn collect(body: Body, of: &Authority, limit: usize, time: Duration) -> Result<Bytes, BodyError> {
    ANSWERS.collect(body, of, limit, time).await
}

/// The room that an answer of this host takes while somebody else reads it; empty at first, and given back when it is
/// dropped. At most 17 MiB are there in any case.
#[must_use]
pub fn answer_room(of: &Authority) -> AnswerRoom<'_> {
    AnswerRoom { answers: &ANSWERS, of, held: None }
}

struct Answers {
    pages: usize,
    free: Arc<Semaphore>,
    hosts: Hosts,
}

/// What one answer holds.
pub struct AnswerRoom<'a> {
    answers: &'a Answers,
    of: &'a Authority,
    held: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Answers {
    fn new(bytes: usize) -> Self {
        let each = (bytes / 4).max(LEAST_EACH).min(bytes);
        let pages = bytes / PAGE;
        Self { pages, free: Arc::new(Semaphore::new(pages)), hosts: Hosts::new(each / PAGE) }
    }

    fn held(&self) -> (usize, usize) {
        (self.pages.saturating_sub(self.free.available_permits()) * PAGE, self.pages * PAGE)
    }

    async fn collect(&self, mut body: Body, of: &Authority, limit: usize, time: Duration) -> Result<Bytes, BodyError> {
        let mut room = AnswerRoom { answers: self, of, held: None };
        let end = Instant::now() + time;
        let (mut since, mut then) = (Instant::now(), 0);
        let mut first = Bytes::new();
        let mut rest = Vec::new();
        loop {
            let length = first.len() + rest.len();
            if length - then >= MUCH {
                (since, then) = (Instant::now(), length);
            }
            let due = if length < MUCH { end } else { end.min(since + STALL) };
            let Ok(frame) = timeout_at(due, body.frame()).await else { return Err(BodyError::new(TooSlow(time))) };
            let Some(frame) = frame else { break };
            let Ok(data) = frame?.into_data() else { continue };
            let needed = length + data.len();
            if needed > limit {
                return Err(BodyError::new(TooLong(limit)));
            }
            if length == 0 {
                room.grow(needed).await?;
                first = data; // most small bodies are one frame: no copy
                continue;
            }
            if needed > rest.capacity() {
                let capacity = (2 * rest.capacity()).clamp(needed, limit);
                room.grow(capacity - first.len().max(rest.capacity())).await?;
                rest.reserve_exact(capacity - rest.len());
            }
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
        Ok(if rest.is_empty() { first } else { rest.into() })
    }
}

impl AnswerRoom<'_> {
    /// Takes so many bytes more. Waits for them a moment.
    ///
    /// # Errors
    /// [`Error::Full`] (see [`Error::of_body`]).
    pub async fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let pages = u32::try_from(bytes.div_ceil(PAGE)).unwrap_or(u32::MAX);
        let both = async {
            let of_host = self.answers.hosts.of(self.of).acquire_many_owned(pages).await.ok()?;
            let of_all = self.answers.free.clone().acquire_many_owned(pages).await.ok()?;
            Some((of_host, of_all))
        };
        let Some((of_host, of_all)) = timeout(WAIT, both).await.ok().flatten() else {
            return Err(BodyError::new(Broken(Error::Full { to: self.of.clone() })));
        };
        match &mut self.held {
            Some((host, all)) => {
                host.merge(of_host);
                all.merge(of_all);
            }
            None => self.held = Some((of_host, of_all)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn host(name: &str) -> Authority {
        Authority::parse(name, 443).unwrap()
    }

    /// So many pieces of 16 KiB at once, and then a byte every five seconds.
    fn dripping(pieces: usize) -> Body {
        Body::wrap(StreamBody::new(stream::unfold(0, move |number| async move {
            if number >= pieces {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            let piece = vec![b' '; if number < pieces { 16 << 10 } else { 1 }];
            Some((Ok::<_, BodyError>(Frame::data(piece.into())), number + 1))
        })))
    }

    #[tokio::test]
    async fn pieces_are_collected_in_order() {
        let lists: [&[&'static str]; 4] = [&[], &["one"], &["one", "two"], &["", "one", "", "two", "three"]];
        let answers = Answers::new(LEAST);
        for list in lists {
            let frames = list.iter().map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from_static(piece.as_bytes()))));
            let body = Body::wrap(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())));
            assert_eq!(answers.collect(body, &host("quay.io"), 100, MINUTE).await.unwrap(), list.concat());
        }
        assert!(answers.collect(Body::full("12345"), &host("quay.io"), 4, MINUTE).await.is_err());
        assert_eq!(answers.held(), (0, LEAST));
    }

    #[tokio::test(start_paused = true)]
    async fn one_host_leaves_room_to_the_others_and_who_stands_still_gives_it_back() {
        let answers = Answers { pages: 128, free: Arc::new(Semaphore::new(128)), hosts: Hosts::new(48) };
        let (large, other) = (host("large.test"), host("quay.io"));
        let begun = Instant::now();
        let first = answers.collect(dripping(5), &large, 1 << 20, MINUTE);
        let second = async {
            let second = answers.collect(dripping(5), &large, 1 << 20, MINUTE).await.unwrap_err();
            assert!(matches!(Error::of_body(&second), Some(Error::Full { .. })), "{second:?}");
            assert!(begun.elapsed() <= WAIT && answers.held().0 > 64 << 10, "{:?}", answers.held());
            answers.collect(Body::full(vec![0; 100_000]), &other, 1 << 20, MINUTE).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(second.unwrap().len(), 100_000, "another host's");
        assert!(first.is_err() && begun.elapsed() <= STALL + WAIT, "{:?}", begun.elapsed());
        assert_eq!(answers.held().0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_answer_may_take_its_time() {
        let answers = Answers::new(LEAST);
        let begun = Instant::now();
        assert!(answers.collect(dripping(0), &host("quay.io"), 1 << 20, MINUTE).await.is_err());
        assert!(begun.elapsed() >= MINUTE);
    }
}
