//! Bounds how much a stream of TLS holds for a peer that does not read, where all of them together hold much.
//!
//! TLS takes up to its limit of plaintext before its socket takes any. Of thousands of connections that stand still
//! that is much memory: it is counted while it waits, and while too much waits each takes a new write only once the
//! one before has gone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::host::{BUFFERS, Buffers};

/// A stream whose flush ends when all that was written has gone to the socket.
#[derive(Debug)]
pub(crate) struct Bounded<S> {
    stream: S,
    /// It holds no more than this, in bytes.
    limit: usize,
    /// Written since the last flush came to its end.
    unflushed: usize,
    counted: usize,
    buffers: &'static Buffers,
}

impl<S> Bounded<S> {
    /// Over a stream that holds at most `limit` bytes.
    pub(crate) fn new(stream: S, limit: usize) -> Self {
        Self::among(stream, limit, &BUFFERS)
    }

    fn among(stream: S, limit: usize, buffers: &'static Buffers) -> Self {
        Self { stream, limit, unflushed: 0, counted: 0, buffers }
    }

    /// Counts bytes while they wait; a peer that is never slow counts nothing.
    fn count(&mut self, bytes: usize) {
        let bytes = bytes.min(self.limit);
        self.buffers.hold(bytes);
        self.buffers.release(self.counted);
        self.counted = bytes;
    }
}

impl<S: AsyncWrite + Unpin> Bounded<S> {
    /// Before a write.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed > 0 && self.buffers.are_full() {
            return self.poll_empty(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.unflushed = 0;
        }
        if self.unflushed != self.counted {
            self.count(self.unflushed);
        }
        flushed
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(count)) => self.unflushed += count,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.count(self.unflushed),
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_empty(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Drop for Bounded<S> {
    fn drop(&mut self) {
        self.buffers.release(self.counted);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes `holds` bytes, and lets go of them when it `flows`.
    struct Tls {
        holds: usize,
        held: usize,
        flows: bool,
    }

    impl AsyncWrite for Tls {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.holds - self.held);
            self.held += taken;
            if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.flows {
                self.held = 0;
            }
            if self.held == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn bounded(flows: bool, budget: usize) -> Bounded<Tls> {
        let buffers = Box::leak(Box::new(Buffers::new(budget)));
        Bounded::among(Tls { holds: 100, held: 0, flows }, 100, buffers)
    }

    fn write(stream: &mut Bounded<Tls>, bytes: usize) -> Option<usize> {
        match Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), &vec![0; bytes]) {
            Poll::Ready(written) => Some(written.unwrap()),
            Poll::Pending => None,
        }
    }

    fn flush(stream: &mut Bounded<Tls>) -> bool {
        Pin::new(stream).poll_flush(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn what_waits_is_counted_and_what_flows_is_not() {
        let mut still = bounded(false, 1000);
        assert_eq!((write(&mut still, 60), write(&mut still, 60), write(&mut still, 60)), (Some(60), Some(40), None));
        assert_eq!(still.buffers.held(), 100);
        still.stream.flows = true;
        assert!(flush(&mut still));
        assert_eq!(still.buffers.held(), 0);
        write(&mut still, 60);
        assert!(flush(&mut still));
        assert_eq!(still.buffers.held(), 0);
        still.stream.flows = false;
        write(&mut still, 60);
        assert!(!flush(&mut still));
        let buffers = still.buffers;
        assert_eq!(buffers.held(), 60);
        drop(still);
        assert_eq!(buffers.held(), 0);
    }

    #[test]
    fn while_too_much_waits_a_write_waits_for_the_one_before() {
        let mut stream = bounded(false, 1);
        assert_eq!(write(&mut stream, 30), Some(30));
        stream.buffers.hold(1);
        assert_eq!(write(&mut stream, 30), None, "30 wait");
        assert_eq!(stream.stream.held, 30);
        stream.stream.flows = true;
        assert_eq!(write(&mut stream, 30), Some(30));
    }
}
