//! Counts the bytes that pass through a stream, as they pass.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that tells `count` how many bytes were read and written.
#[derive(Debug)]
pub struct Metered<S, F> {
    stream: S,
    count: F,
}

impl<S, F: Fn(u64, u64)> Metered<S, F> {
    /// Counts from now on.
    pub fn new(stream: S, count: F) -> Self {
        Self { stream, count }
    }
}

impl<S: AsyncRead + Unpin, F: Fn(u64, u64) + Unpin> AsyncRead for Metered<S, F> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (this, before) = (self.get_mut(), buf.filled().len());
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        (this.count)((buf.filled().len() - before) as u64, 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, F: Fn(u64, u64) + Unpin> AsyncWrite for Metered<S, F> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        (this.count)(0, written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn both_directions_are_counted() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let counted = Cell::new((0, 0));
        let mut metered = Metered::new(ours, |read, written| {
            let (all_read, all_written) = counted.get();
            counted.set((all_read + read, all_written + written));
        });
        theirs.write_all(b"hello").await.unwrap();
        metered.read_exact(&mut [0; 5]).await.unwrap();
        metered.write_all(b"hi").await.unwrap();
        assert_eq!(counted.get(), (5, 2));
    }
}
