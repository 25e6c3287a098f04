//! Verifies blobs in the background: suspects at once, and all others at a limited rate if enabled.
//!
//! One thread, mostly asleep. The scrub hashes the blobs in the order of their rows, pauses after every chunk to stay
//! under its rate, keeps its reads out of the page cache, and continues after a restart where it stopped. A suspect is
//! verified even in the middle of a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use crate::oci::Digest;
use crate::store::Error;
use crate::store::catalog::{CatalogReader, Change, ScrubProgress, micros};
use crate::store::content::blobs::Blobs;

/// The speed of the scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPace {
    /// The most bytes to read in a second.
    pub rate: u64,
    /// The time from the end of one pass over all blobs to the start of the next.
    pub rest: Duration,
}

impl Default for ScrubPace {
    /// 8 MiB/s, which is 100 GiB in less than four hours, and a week between passes.
    fn default() -> Self {
        Self { rate: 8 << 20, rest: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// A request to the thread.
#[derive(Debug)]
pub(crate) enum Task {
    /// Verify this suspect.
    Verify(Digest),
    /// Scrub at this pace from now on, or not.
    Scrub(Option<ScrubPace>),
    /// Wake up and see that the store is stopping.
    Stop,
}

const PAGE: u32 = 256;
/// How often the position is recorded.
const RECORD_AGE: Duration = Duration::from_secs(10);

pub(crate) struct Scrubber {
    blobs: Arc<Blobs>,
    reader: CatalogReader,
    tasks: Receiver<Task>,
    stop: Arc<AtomicBool>,
    pace: Option<ScrubPace>,
    recorded_at: Instant,
}

impl Scrubber {
    pub(crate) fn new(blobs: Arc<Blobs>, tasks: Receiver<Task>, stop: Arc<AtomicBool>) -> Self {
        Self { reader: blobs.catalog.reader(), blobs, tasks, stop, pace: None, recorded_at: Instant::now() }
    }

    /// Runs until it is stopped.
    pub(crate) fn run(mut self) {
        while !self.is_stopped() {
            let pause = match self.pace {
                None => Duration::MAX,
                Some(pace) => self.pass(pace).unwrap_or_else(|error| {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the scrub was interrupted");
                    Duration::from_secs(600)
                }),
            };
            self.wait(pause);
        }
    }

    /// Continues the pass until its end or a new request. Returns how long to wait then.
    fn pass(&mut self, pace: ScrubPace) -> Result<Duration, Error> {
        let mut progress = self.reader.progress()?;
        let rested = Duration::from_micros((micros(SystemTime::now()) - progress.ended).max(0).cast_unsigned());
        if progress.after == 0 && rested < pace.rest {
            return Ok(pace.rest.saturating_sub(rested));
        }
        loop {
            self.blobs.catalog.flush_now(); // includes the blobs committed so far
            let rows = self.reader.page(progress.after, PAGE)?;
            if rows.is_empty() {
                progress = ScrubProgress { after: 0, ended: micros(SystemTime::now()) };
                self.blobs.catalog.submit(Change::Scrubbed(progress));
                return Ok(pace.rest);
            }
            for row in rows.iter().filter(|row| row.proven) {
                let blobs = Arc::clone(&self.blobs);
                let verified = blobs.verify(&row.digest, &mut |read| self.pause(pace, read));
                if let Err(error) = verified {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, digest = %row.digest, "cannot verify a blob");
                }
                if self.is_stopped() || self.pace != Some(pace) {
                    return Ok(Duration::ZERO); // reads this blob again
                }
                progress.after = row.id;
                if self.recorded_at.elapsed() >= RECORD_AGE {
                    self.recorded_at = Instant::now();
                    self.blobs.catalog.submit(Change::Scrubbed(progress));
                }
            }
            progress.after = rows.last().map_or(progress.after, |row| row.id);
        }
    }

    /// Sleeps for as long as reading `read` bytes should take. Returns whether to continue.
    fn pause(&mut self, pace: ScrubPace, read: u64) -> bool {
        let nanos = u128::from(read) * 1_000_000_000 / u128::from(pace.rate.max(1));
        self.wait(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        !self.is_stopped() && self.pace == Some(pace)
    }

    /// Serves requests for this long.
    fn wait(&mut self, pause: Duration) {
        let until = Instant::now().checked_add(pause);
        while !self.is_stopped() {
            let task = match until {
                None => self.tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => self.tasks.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match task {
                Ok(Task::Verify(digest)) => self.blobs.verify_suspect(&digest),
                Ok(Task::Scrub(pace)) => {
                    self.pace = pace;
                    return;
                }
                Ok(Task::Stop) | Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => return self.stop.store(true, Ordering::Release),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}
