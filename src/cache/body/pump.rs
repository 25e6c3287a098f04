//! Reads a file into a body's chunks: from the page cache in place, from the disk on a blocking thread.

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use super::buffers::{Buffer, SIZES};
use crate::host::{self, BUFFERS, Buffers};
use crate::store::Blob;
use crate::wire::Span;

const CHUNK: usize = SIZES[2];
/// With so many bodies at a time each reads smaller chunks: larger buffers would cost more than larger reads gain. The
/// number is smaller where large buffers would take more than an eighth of the memory that this process may use.
const CROWD: usize = 200;
const CROWDED_CHUNK: usize = SIZES[1];
/// As a rule, at most so many chunks of one body are with the connection at a time.
const UNDER_WAY: usize = 4;
/// Of many bodies, one whose client takes nothing holds so much; and so does each body while the buffers are full. A
/// few more reads cost less than many readers that stand still.
const LEAST: usize = Buffers::LEAST;
static FITTING: LazyLock<usize> = LazyLock::new(|| fitting(host::memory_limit()));

fn fitting(memory: u64) -> usize {
    CROWD.min(usize::try_from(memory / 8).unwrap_or(usize::MAX) / (UNDER_WAY * CHUNK))
}

/// A body gives way after its turn. The first turn is short: of many that come at once, each has its first bytes before
/// any has all of its own. Further turns are taken where there are more bodies than so many for each processor. (64 clients that
/// ask for one cached blob at once, two processors: median first byte 50 ms without turns, 16 ms with them.)
const BODIES_EACH: usize = 2;
const TURN: usize = 256 << 10;
const FIRST_TURN: usize = 64 << 10;
static FEW: LazyLock<usize> = LazyLock::new(|| BODIES_EACH * thread::available_parallelism().map_or(1, usize::from));

/// How many bodies there are.
static BODIES: AtomicUsize = AtomicUsize::new(0);

fn are_more_than(bodies: usize) -> bool {
    BODIES.load(Ordering::Relaxed) > bodies
}

fn is_crowded() -> bool {
    are_more_than(*FITTING)
}

/// A file that is read by position.
pub(crate) trait ReadAt: Clone + Send + Unpin + 'static {
    /// Without waiting for the disk; `None` where it would have to.
    fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>>;
    /// Waiting for the disk.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Ends when the disk has let a read that begins now wait for too long.
    fn hung(&self) -> BoxFuture<'static, ()>;
}

impl ReadAt for Blob {
    fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Self::try_read_at(self, at, buffer)
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Self::read_at(self, at, buffer)
    }

    fn hung(&self) -> BoxFuture<'static, ()> {
        Box::pin(Self::hung(self))
    }
}

/// A read that waits for the disk.
struct Reading {
    done: JoinHandle<(Buffer, io::Result<usize>)>,
    hung: BoxFuture<'static, ()>,
}

/// Reads chunks of one file, one at a time.
pub(crate) struct Pump<F> {
    file: F,
    reading: Option<Reading>,
    /// How long its turn is, and how many bytes of it are given.
    turn: usize,
    given: usize,
}

impl<F: ReadAt> Pump<F> {
    pub(crate) fn new(file: F) -> Self {
        BODIES.fetch_add(1, Ordering::Relaxed);
        Self { file, reading: None, turn: FIRST_TURN, given: 0 }
    }

    /// The next chunk of `span`, at most 256 KiB and never empty. While it is pending, ask for the same
    /// position again.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>, span: Span) -> Poll<io::Result<Bytes>> {
        let has_turns = self.turn == FIRST_TURN || are_more_than(*FEW);
        if has_turns && self.given >= self.turn {
            (self.turn, self.given) = (TURN, 0);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let chunk = if has_turns { self.chunk().min(self.turn) } else { self.chunk() };
        let wanted = usize::try_from(span.len()).unwrap_or(chunk).min(chunk);
        let (buffer, read) = match self.reading.as_mut() {
            Some(reading) => {
                let read = match Pin::new(&mut reading.done).poll(cx) {
                    Poll::Ready(read) => read,
                    Poll::Pending => {
                        ready!(reading.hung.as_mut().poll(cx));
                        self.reading = None; // its thread stays with the disk
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                };
                self.reading = None;
                read.map_err(io::Error::other)?
            }
            None => {
                let mut buffer = Buffer::of(wanted);
                match self.file.try_read_at(span.from, buffer.room()) {
                    Ok(Some(read)) => (buffer, Ok(read)),
                    Err(cause) => (buffer, Err(cause)),
                    Ok(None) => {
                        let (file, from) = (self.file.clone(), span.from);
                        let done = tokio::task::spawn_blocking(move || {
                            let read = file.read_at(from, buffer.room());
                            (buffer, read)
                        });
                        self.reading = Some(Reading { done, hung: self.file.hung() });
                        return self.poll_chunk(cx, span);
                    }
                }
            }
        };
        Poll::Ready(match read? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.given += length;
                Ok(buffer.filled(length))
            }
        })
    }

    /// How much to read at once. What a body gives first is with the connection before its client has shown that it
    /// takes anything.
    fn chunk(&self) -> usize {
        let is_first = self.turn == FIRST_TURN && self.given == 0;
        match is_crowded() {
            _ if BUFFERS.are_full() => LEAST,
            true if is_first => LEAST,
            true => CROWDED_CHUNK,
            false => CHUNK,
        }
    }
}

impl<F> Drop for Pump<F> {
    fn drop(&mut self) {
        BODIES.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file without end, always in memory.
    #[derive(Clone)]
    struct Zeros;

    impl ReadAt for Zeros {
        fn try_read_at(&self, _: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
            Ok(Some(buffer.len()))
        }

        fn read_at(&self, _: u64, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn hung(&self) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    /// A file on a disk that does not return until it is let go.
    #[derive(Clone)]
    struct Held(std::sync::Arc<std::sync::Mutex<()>>, tokio::sync::watch::Receiver<bool>);

    impl ReadAt for Held {
        fn try_read_at(&self, _: u64, _: &mut [u8]) -> io::Result<Option<usize>> {
            Ok(None)
        }

        fn read_at(&self, _: u64, buffer: &mut [u8]) -> io::Result<usize> {
            drop(self.0.lock());
            Ok(buffer.len())
        }

        fn hung(&self) -> BoxFuture<'static, ()> {
            let mut hangs = self.1.clone();
            Box::pin(async move { drop(hangs.wait_for(|hangs| *hangs).await) })
        }
    }

    #[tokio::test]
    async fn a_body_does_not_wait_for_a_disk_that_hangs() {
        let (disk, hangs) = (std::sync::Arc::new(std::sync::Mutex::new(())), tokio::sync::watch::Sender::new(false));
        let held = disk.lock();
        let mut pump = Pump::new(Held(disk.clone(), hangs.subscribe()));
        let all = Span { from: 0, to: u64::MAX };
        let polled = std::future::poll_fn(|cx| Poll::Ready(pump.poll_chunk(cx, all).is_pending())).await;
        assert!(polled);
        hangs.send_replace(true);
        let error = std::future::poll_fn(|cx| pump.poll_chunk(cx, all)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(held);
    }

    #[tokio::test]
    async fn a_body_gives_way_after_its_first_bytes_and_comes_back_by_itself() {
        let mut pump = Pump::new(Zeros);
        let all = Span { from: 0, to: u64::MAX };
        let first = std::future::poll_fn(|cx| pump.poll_chunk(cx, all)).await.unwrap();
        assert_eq!(first.len(), FIRST_TURN);
        let mut waits = 0;
        let next = std::future::poll_fn(|cx| {
            let polled = pump.poll_chunk(cx, all);
            waits += usize::from(polled.is_pending());
            polled
        });
        let next = next.await.unwrap();
        assert_eq!((waits, next.len()), (1, CHUNK));
    }

    #[test]
    fn large_chunks_are_for_as_many_as_memory_holds() {
        for (memory, bodies) in [(64 << 20, 8), (512 << 20, 64), (u64::MAX, 200), (0, 0)] {
            assert_eq!(fitting(memory), bodies, "{memory}");
        }
    }
}
