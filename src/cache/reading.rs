//! Reads a file into a body's chunks: from the page cache in place, from the disk on a blocking thread.
//!
//! Each body owns a small ring of buffers that come back once the connection has sent them: a fresh 256 KiB
//! buffer for each chunk cost 1.04 CPU s/GB in page faults, the ring 0.45.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use crate::host;
use crate::store::{Blob, Staged};
use crate::wire::Span;

const CHUNK: usize = 256 << 10;
/// The chunk where many read: their rings shall fit into what this process may use.
const SMALL_CHUNK: usize = 64 << 10;
/// The most that rings of large chunks may take together: about 200 readers.
const RINGS: u64 = 200 << 20;

/// Chunks of one body that may be with the connection at a time before new ones are no longer kept.
const RING: usize = 4;

/// A file that is read by position.
pub(super) trait ReadAt: Clone + Send + Unpin + 'static {
    /// Without waiting for the disk; `None` where it would have to.
    fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>>;
    /// Waiting for the disk.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for Blob {
    fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Self::try_read_at(self, at, buffer)
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Self::read_at(self, at, buffer)
    }
}

impl ReadAt for Arc<Staged> {
    fn try_read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Staged::try_read_at(self, at, buffer)
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Staged::read_at(self, at, buffer)
    }
}

/// How many pumps there are.
static PUMPS: AtomicUsize = AtomicUsize::new(0);
/// How many of them may have large chunks: an eighth of the memory, at most [`RINGS`].
static ROOMY: LazyLock<usize> = LazyLock::new(|| roomy(host::memory_limit()));

fn roomy(memory: u64) -> usize {
    usize::try_from((memory / 8).min(RINGS)).unwrap_or(usize::MAX) / (RING * CHUNK)
}

/// How large a chunk is now. A body that began with large ones goes on with small ones when many have come.
fn chunk() -> usize {
    if PUMPS.load(Ordering::Relaxed) > *ROOMY { SMALL_CHUNK } else { CHUNK }
}

/// Reads chunks of one file, one at a time.
pub(super) struct Pump<F> {
    file: F,
    sent: VecDeque<Bytes>,
    reading: Option<JoinHandle<(BytesMut, io::Result<usize>)>>,
}

impl<F> Drop for Pump<F> {
    fn drop(&mut self) {
        PUMPS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F: ReadAt> Pump<F> {
    pub(super) fn new(file: F) -> Self {
        PUMPS.fetch_add(1, Ordering::Relaxed);
        Self { file, sent: VecDeque::new(), reading: None }
    }

    /// The next chunk of `span`, at most 256 KiB and never empty. While it is pending, ask for the same
    /// position again.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>, span: Span) -> Poll<io::Result<Bytes>> {
        let wanted = usize::try_from(span.len()).unwrap_or(CHUNK).min(chunk());
        let (buffer, read) = match self.reading.as_mut() {
            Some(reading) => {
                let read = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                read.map_err(io::Error::other)?
            }
            None => {
                let mut buffer = self.buffer(wanted);
                match self.file.try_read_at(span.from, &mut buffer[..wanted]) {
                    Ok(Some(read)) => (buffer, Ok(read)),
                    Err(cause) => (buffer, Err(cause)),
                    Ok(None) => {
                        let (file, from) = (self.file.clone(), span.from);
                        self.reading = Some(tokio::task::spawn_blocking(move || {
                            let read = file.read_at(from, &mut buffer[..wanted]);
                            (buffer, read)
                        }));
                        return self.poll_chunk(cx, span);
                    }
                }
            }
        };
        Poll::Ready(match read? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(self.lend(buffer, length)),
        })
    }

    /// A buffer that came back from the connection, else a new one.
    fn buffer(&mut self, wanted: usize) -> BytesMut {
        if let Some(sent) = self.sent.pop_front() {
            match sent.try_into_mut() {
                Ok(mut buffer) if buffer.capacity() >= wanted => {
                    buffer.resize(wanted, 0);
                    return buffer;
                }
                Ok(_) => {}
                Err(busy) => self.sent.push_front(busy),
            }
        }
        BytesMut::zeroed(wanted)
    }

    fn lend(&mut self, mut buffer: BytesMut, length: usize) -> Bytes {
        buffer.truncate(length);
        let bytes = buffer.freeze();
        if self.sent.len() < RING {
            self.sent.push_back(bytes.clone());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_chunks_are_for_as_many_as_memory_holds() {
        for (memory, readers) in [(64 << 20, 8), (512 << 20, 64), (u64::MAX, 200), (0, 0)] {
            assert_eq!(roomy(memory), readers, "{memory}");
        }
    }
}
