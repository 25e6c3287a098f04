//! Shows the progress of verification: a bar on a terminal, otherwise nothing.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error.
pub(super) struct VerifyProgress {
    bar: Option<ProgressBar>,
}

impl VerifyProgress {
    pub(super) fn new() -> Self {
        Self { bar: None }
    }

    /// Starts with `bytes` to go.
    pub(super) fn start(&mut self, bytes: u64) {
        if io::stderr().is_terminal() {
            let bar = ProgressBar::new(bytes);
            let words = "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(words) {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
    }

    pub(super) fn add(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// Prints something while the bar is hidden.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
