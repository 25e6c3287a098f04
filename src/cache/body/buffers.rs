//! Keeps the buffers that files are read into, and uses them again once the connection has sent their bytes.
//!
//! A fresh buffer for each chunk cost 1.04 CPU s/GB in page faults, used ones 0.45. No body owns them: a body whose
//! client takes nothing holds only what its connection has not sent yet.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::host::BUFFERS;

/// The sizes that are kept, in bytes. A chunk that would fill less than half of one gets a buffer for one use: a reader
/// that stands still with a few bytes must not hold a large buffer.
pub(crate) const SIZES: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];
/// At most so many bytes are kept unused; fewer where memory is short.
const KEPT: usize = 32 << 20;

static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(KEPT.min(BUFFERS.budget() / 4)));

/// The unused buffers, by size.
struct Pool {
    stacks: [Mutex<Stack>; SIZES.len()],
    /// Bytes of one size.
    kept: usize,
}

#[derive(Default)]
struct Stack {
    unused: Vec<Vec<u8>>,
    /// So many have not been needed since the last [`Pool::trim`].
    idle: usize,
}

/// A buffer of initialised bytes.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    pool: &'static Pool,
}

impl Buffer {
    /// Room for so many bytes, which hold anything.
    pub(crate) fn of(length: usize) -> Self {
        POOL.take(length)
    }

    /// The room.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    /// The first `length` bytes of it. It comes back here when the last of them is dropped.
    pub(crate) fn filled(mut self, length: usize) -> Bytes {
        self.length = length.min(self.length);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.bytes));
    }
}

impl Pool {
    fn new(kept: usize) -> Self {
        Self { stacks: std::array::from_fn(|_| Mutex::default()), kept: kept / SIZES.len() }
    }

    fn take(&'static self, length: usize) -> Buffer {
        let size = SIZES.into_iter().find(|size| (size / 2..=*size).contains(&length)).unwrap_or(length);
        let used = self.stack(size).and_then(|mut stack| {
            let used = stack.unused.pop();
            stack.idle = stack.idle.min(stack.unused.len());
            used
        });
        Buffer { bytes: used.unwrap_or_else(|| vec![0; size]), length, pool: self }
    }

    fn put(&self, bytes: Vec<u8>) {
        let size = bytes.len();
        if let Some(mut stack) = self.stack(size)
            && (stack.unused.len() + 1) * size <= self.kept
        {
            stack.unused.push(bytes);
        }
    }

    fn stack(&self, size: usize) -> Option<MutexGuard<'_, Stack>> {
        let place = SIZES.iter().position(|one| *one == size)?;
        Some(self.stacks[place].lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn trim(&self) {
        for size in SIZES {
            let Some(mut stack) = self.stack(size) else { continue };
            let needed = stack.unused.len() - stack.idle;
            let unneeded = stack.unused.split_off(needed);
            stack.idle = needed;
            drop(stack);
            drop(unneeded);
        }
    }
}

/// Gives buffers that were not needed since the last call back to the system. Meant to be called periodically.
pub fn trim_buffers() {
    POOL.trim();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> &'static Pool {
        Box::leak(Box::new(Pool::new(3 * (1 << 20))))
    }

    fn unused(pool: &Pool) -> Vec<usize> {
        SIZES.iter().map(|size| pool.stack(*size).unwrap().unused.len()).collect()
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_of_its_bytes() {
        let pool = pool();
        let mut buffer = pool.take(SIZES[1]);
        buffer.room()[..3].copy_from_slice(b"abc");
        let mut bytes = buffer.filled(3);
        let first = bytes.split_to(1);
        assert_eq!((&first[..], &bytes[..]), (&b"a"[..], &b"bc"[..]));
        drop(bytes);
        assert_eq!(unused(pool), [0, 0, 0]);
        drop(first);
        assert_eq!(unused(pool), [0, 1, 0]);
        let mut again = pool.take(SIZES[1] - 1);
        assert_eq!(again.room().len(), SIZES[1] - 1);
        assert_eq!(&again.room()[..3], b"abc", "the same one");
        drop(again);
        drop(pool.take(100).filled(100));
        assert_eq!(unused(pool), [0, 1, 0], "one of another size is made for once");
    }

    #[test]
    fn no_more_lie_unused_than_may_and_what_nobody_needs_goes() {
        let pool = pool();
        let many: Vec<_> = (0..10).map(|_| pool.take(SIZES[2])).collect();
        drop(many);
        assert_eq!(unused(pool), [0, 0, 4], "a third of the bytes for each size");
        pool.trim();
        let one = pool.take(SIZES[2]);
        pool.trim();
        drop(one);
        assert_eq!(unused(pool), [0, 0, 1]);
        pool.trim();
        pool.trim();
        assert_eq!(unused(pool), [0, 0, 0]);
    }
}
