//! How many bytes lie in buffers and wait for clients: in all of this process, as its memory is.
//!
//! Above the budget nothing is refused. Each body then has one small piece under way at a time: who reads still gets its
//! bytes, and who does not holds no more than that.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::Budget;

/// The process's own.
pub static BUFFERS: LazyLock<Buffers> = LazyLock::new(|| Buffers::new(Budget::of_process(None).buffers));

/// A count of bytes, and how many there should be.
#[derive(Debug)]
pub struct Buffers {
    held: AtomicUsize,
    budget: usize,
}

impl Buffers {
    /// What a body may always have under way, in bytes.
    pub const LEAST: usize = 16 << 10;

    /// With a budget in bytes.
    #[must_use]
    pub const fn new(budget: usize) -> Self {
        Self { held: AtomicUsize::new(0), budget }
    }

    /// So many bytes more wait.
    pub fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many of them are gone.
    pub fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many should be the most.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Whether there are that many.
    #[must_use]
    pub fn are_full(&self) -> bool {
        self.held() >= self.budget
    }
}
