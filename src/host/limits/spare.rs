//! Keeps files open in reserve, to be closed for a connection that must be accepted.
//!
//! The limits leave enough files for everything. If they are wrong, or the machine is out of files, health checks and
//! metrics are still answered.

use std::fs::File;

const KEPT: usize = 2;

/// The reserved files.
#[derive(Debug, Default)]
pub struct Spare(Vec<File>);

impl Spare {
    /// Opens as many as it can.
    #[must_use]
    pub fn new() -> Self {
        let mut spare = Self::default();
        spare.refill();
        spare
    }

    /// Opens the files again that were given up, if it can.
    pub fn refill(&mut self) {
        while self.0.len() < KEPT
            && let Ok(file) = File::open("/dev/null")
        {
            self.0.push(file);
        }
    }

    /// Closes one; false if none is left.
    pub fn give_up(&mut self) -> bool {
        self.0.pop().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_comes_back() {
        let mut spare = Spare::new();
        assert!(spare.give_up() && spare.give_up() && !spare.give_up());
        spare.refill();
        assert!(spare.give_up());
    }
}
