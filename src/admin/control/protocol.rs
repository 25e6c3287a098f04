//! Defines the protocol of the socket: `POST /v1/cache/COMMAND` with an order, answered by lines of JSON.
//!
//! The version is in the path. If a later client sends something unknown, the server answers with a text for a person; a
//! line that the client does not know ends the command with a text as well.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::cache::Event;

/// The beginning of each path.
pub(super) const PREFIX: &str = "/v1/cache/";
/// The largest order, in bytes.
pub(super) const ORDER_LIMIT: usize = 64 << 10;
/// The longest line, in bytes: an image with thousands of layers.
pub(super) const LINE_LIMIT: usize = 64 << 20;

/// A line of an answer. The last one is [`ReplyLine::Failed`] or [`ReplyLine::End`]; without it the answer was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReplyLine {
    /// Something was found or done.
    Event(Event),
    /// The command failed: why, with its causes.
    Failed(String),
    /// The command is finished.
    End,
}

impl ReplyLine {
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).unwrap_or_else(|_| br#"{"failed":"cannot write an answer"}"#.to_vec());
        text.push(b'\n');
        text
    }
}

/// Prints an error and its causes as one sentence.
pub(super) fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
