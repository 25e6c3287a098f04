//! Coalesces the frames of an HTTP/2 connection into few writes.
//!
//! h2 writes and flushes each answer, and each frame of 16 KiB, by itself: a system call and a TLS record or two for
//! each. So a flush waits for one more poll of the connection's task, in which the other ready streams write too: the
//! answers to four requests that arrived together leave in one write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Frames are coalesced up to this many bytes. A larger write passes through.
const FULL: usize = 64 << 10;

/// A stream that holds small writes back for one poll. Only for h2: it relies on the fact that each poll of a
/// connection's task reads first, then writes, and flushes at its end.
#[derive(Debug)]
pub struct Coalesce<S> {
    stream: S,
    held: Vec<u8>,
    /// How much of `held` was written.
    sent: usize,
    flush: Flush,
    is_blocked: Arc<AtomicBool>,
}

/// The state of a flush of the held bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// Not requested.
    Idle,
    /// Requested in this poll, and the task was woken for another.
    Requested,
    /// Due in this poll.
    Due,
}

impl<S> Coalesce<S> {
    /// Coalesces the writes to `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, held: Vec::new(), sent: 0, flush: Flush::Idle, is_blocked: Arc::default() }
    }

    /// A flag that is set while the stream accepts no bytes.
    pub fn is_blocked(&self) -> Arc<AtomicBool> {
        self.is_blocked.clone()
    }

    fn track<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.is_blocked.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> Coalesce<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.held[self.sent..]);
            match ready!(self.track(written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.held.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesce<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.flush == Flush::Requested {
            self.flush = Flush::Due;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesce<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if self.held.len() >= FULL || length >= FULL {
            ready!(self.poll_drain(cx))?;
        }
        if length >= FULL {
            let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
            return self.track(written);
        }
        self.held.reserve(length);
        bufs.iter().for_each(|buf| self.held.extend_from_slice(buf));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.flush {
            Flush::Idle if !self.held.is_empty() => {
                self.flush = Flush::Requested;
                cx.waker().wake_by_ref();
                return Poll::Ready(Ok(()));
            }
            Flush::Requested => return Poll::Ready(Ok(())),
            Flush::Idle | Flush::Due => {}
        }
        ready!(self.poll_drain(cx))?;
        self.held = Vec::new(); // an idle connection holds no buffer
        self.flush = Flush::Idle;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.track(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    /// Keeps each write; accepts `room` more bytes, and reads nothing.
    #[derive(Default)]
    struct Wire {
        writes: Vec<Vec<u8>>,
        room: usize,
        flushes: usize,
    }

    impl AsyncRead for Wire {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.writes.push(buf[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The task of a connection, polled step by step.
    struct Task {
        coalesce: Coalesce<Wire>,
        woken: Arc<Woken>,
    }

    impl Task {
        fn with_room(room: usize) -> Self {
            Self { coalesce: Coalesce::new(Wire { room, ..Wire::default() }), woken: Arc::default() }
        }

        /// One poll as h2 does it: reads, writes each frame and flushes after it. Returns how many frames were
        /// accepted, and whether the last call was ready.
        fn turn(&mut self, frames: &[&[u8]]) -> (usize, bool) {
            let waker = Waker::from(self.woken.clone());
            let cx = &mut Context::from_waker(&waker);
            let mut coalesce = Pin::new(&mut self.coalesce);
            assert!(coalesce.as_mut().poll_read(cx, &mut ReadBuf::new(&mut [0; 8])).is_pending());
            for (taken, frame) in frames.iter().enumerate() {
                match coalesce.as_mut().poll_write(cx, frame) {
                    Poll::Ready(count) => assert_eq!(count.unwrap(), frame.len()),
                    Poll::Pending => return (taken, false),
                }
                if coalesce.as_mut().poll_flush(cx).is_pending() {
                    return (taken + 1, false);
                }
            }
            (frames.len(), coalesce.poll_flush(cx).is_ready())
        }

        fn written(&self) -> Vec<usize> {
            self.coalesce.stream.writes.iter().map(Vec::len).collect()
        }

        fn wakes(&self) -> usize {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn what_two_turns_write_leaves_as_one() {
        let mut task = Task::with_room(usize::MAX);
        assert_eq!(task.turn(&[b"one", b"two"]), (2, true));
        assert_eq!((task.written(), task.wakes()), (vec![], 1), "held, and another turn is on its way");
        assert_eq!(task.turn(&[]), (0, true));
        assert_eq!(task.coalesce.stream.writes, [b"onetwo".to_vec()]);
        assert_eq!((task.coalesce.stream.flushes, task.wakes(), task.coalesce.held.capacity()), (1, 1, 0));
    }

    #[test]
    fn the_second_turn_adds_its_own_before_it_flushes() {
        let mut task = Task::with_room(usize::MAX);
        task.turn(&[b"one"]);
        task.turn(&[b"two"]);
        assert_eq!(task.coalesce.stream.writes, [b"onetwo".to_vec()]);
        task.turn(&[b"three"]);
        task.turn(&[]);
        assert_eq!((task.written(), task.wakes()), (vec![6, 5], 2));
    }

    #[test]
    fn frames_are_gathered_up_to_a_bound_and_large_ones_pass() {
        let mut task = Task::with_room(usize::MAX);
        let (small, large) = ([1; 16 << 10], [2; FULL]);
        task.turn(&[&small[..]; 9]);
        assert_eq!(task.written(), [FULL, FULL], "the ninth is held");
        task.turn(&[&large[..]]);
        assert_eq!(task.written(), [FULL, FULL, small.len(), large.len()], "in order");
    }

    #[test]
    fn a_stream_that_takes_little_loses_and_repeats_nothing() {
        let mut task = Task::with_room(4);
        assert_eq!(task.turn(&[b"abcdef"]), (1, true));
        assert_eq!(task.turn(&[]), (0, false), "the stream wakes the task when it takes more");
        assert!(task.coalesce.is_blocked().load(Ordering::Relaxed));
        task.coalesce.stream.room = FULL;
        assert_eq!(task.turn(&[b"ghi"]), (1, true));
        task.turn(&[]);
        assert_eq!(task.coalesce.stream.writes.concat(), b"abcdefghi");
        assert!(!task.coalesce.is_blocked().load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_shutdown_sends_what_is_held() {
        let mut coalesce = Coalesce::new(Wire { room: 100, ..Wire::default() });
        tokio::io::AsyncWriteExt::write_all(&mut coalesce, b"last").await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut coalesce).await.unwrap();
        assert_eq!(coalesce.stream.writes, [b"last".to_vec()]);
    }
}
