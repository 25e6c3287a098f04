//! Files that are kept open for nothing, to be given up for a connection that has to be accepted.
//!
//! The limits leave enough for all. Should they be wrong, or the machine be out of files, whoever asks how the proxy is
//! doing still gets in.

use std::fs::File;

const KEPT: usize = 2;

/// The files.
#[derive(Debug, Default)]
pub struct Spare(Vec<File>);

impl Spare {
    /// As many as can be had.
    #[must_use]
    pub fn new() -> Self {
        let mut spare = Self::default();
        spare.refill();
        spare
    }

    /// Opens again what was given up, if it can.
    pub fn refill(&mut self) {
        while self.0.len() < KEPT
            && let Ok(file) = File::open("/dev/null")
        {
            self.0.push(file);
        }
    }

    /// Gives one up; false where there is none left.
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
