//! Formats an error and its causes on one line, for the log or for an answer.

use std::error::Error;

/// Joins an error and its causes by colons. A cause that the text already contains is left out.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}
