//! Counts the bytes in buffers that wait for clients, in the whole process.
//!
//! Above the budget nothing is refused. Each body then has one small piece in progress at a time: a client that reads
//! still gets its bytes, and a client that does not read holds no more than that.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::Budget;

/// The buffers of this process.
pub static BUFFERS: LazyLock<Buffers> = LazyLock::new(|| Buffers::new(Budget::of_process(None).buffers));

/// A count of bytes, and its budget.
#[derive(Debug)]
pub struct Buffers {
    held: AtomicUsize,
    budget: usize,
}

impl Buffers {
    /// The bytes that a body may always have in progress.
    pub const LEAST: usize = 16 << 10;

    /// With a budget in bytes.
    #[must_use]
    pub const fn new(budget: usize) -> Self {
        Self { held: AtomicUsize::new(0), budget }
    }

    /// Adds bytes that wait.
    pub fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Subtracts bytes that are gone.
    pub fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bytes that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The budget in bytes.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Whether the budget is reached.
    #[must_use]
    pub fn are_full(&self) -> bool {
        self.held() >= self.budget
    }
}
