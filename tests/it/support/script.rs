//! What a registry is told to do to the requests that match a pattern.
//!
//! A pattern is `[METHOD ]PATH`, the path without its query, where `*` stands for any characters: `/v2/*`,
//! `GET */blobs/*`, `HEAD /v2/org/app/manifests/1`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::Tokens;

/// One thing to do to a matching request. All lines of the script that match apply together.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Demand a bearer token of these, to be had at this realm.
    Bearer(Tokens, String),
    /// Demand `Authorization: Basic` of this user and password.
    Basic(String, String),
    /// Answer this status, with an OCI error body where it is an error.
    Status(u16),
    /// Answer exactly this.
    Answer { status: u16, headers: Vec<(String, String)>, body: String },
    /// Do this to whoever does not send this `Authorization`, before anything else is looked at.
    Unless(String, Box<Act>),
    /// Do this to whoever does not name this very type in `Accept`.
    UnlessAccepts(&'static str, Box<Act>),
    /// Do this to a question for a part.
    ToRange(Box<Act>),
    /// Do this to a question for all from some byte on.
    ToOpenRange(Box<Act>),
    /// Add a header to the answer, or replace it.
    Header(String, String),
    /// Redirect; `{path}` in the location stands for the request's path.
    Redirect { status: u16, location: String },
    /// Wait before the head of the answer.
    Delay(Duration),
    /// Wait with the head of the answer for this gate.
    Wait(Gate),
    /// Never answer.
    Silence,
    /// Close the connection (h1) or reset the stream (h2) instead of answering.
    Reset,
    /// Read an upload without keeping it, and accept it as what it says that it is.
    Swallow,
    /// Send the body at so many bytes a second.
    Throttle(u64),
    /// Send so many bytes of the body, then nothing until the gate opens.
    Hold(u64, Gate),
    /// Send so many bytes of the body, then nothing more, for ever.
    Stall(u64),
    /// Break the connection after so many bytes of the body.
    Cut(u64),
    /// Break the connection at a place in the body that this generator chooses.
    CutAnywhere(Dice),
    /// Flip a bit of the content's byte at this offset.
    WrongByte(u64),
    /// Say a `Content-Length` that is so much too long (or short, if negative).
    WrongLength(i64),
    /// Answer a range with 200 and the whole.
    IgnoreRange,
    /// Answer HEAD with 405.
    NoHead,
    /// Answer every HEAD with 200, an invented length and, by digest, the digest asked for.
    EveryHead,
    /// Compress the answer, though it was asked for as it is.
    Coded,
    /// Send no `Content-Length`.
    NoLength,
    /// Send no `Docker-Content-Digest`.
    NoDigest,
    /// Answer a range of a blob with this: made of the first byte asked for, and of the whole content.
    PartOf(fn(u64, &Bytes) -> Part),
}

/// An answer to a range, right or wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) status: u16,
    /// `Content-Range`, if it has one.
    pub(crate) range: Option<String>,
    pub(crate) bytes: Bytes,
    pub(crate) length: Length,
}

/// What an answer says of its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Length {
    /// The truth.
    #[default]
    True,
    /// Nothing.
    Unsaid,
    /// So many bytes.
    Said(u64),
}

/// A line of the script, to take it out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line(pub(super) usize);

/// Holds what waits for it until it is opened. Clones are one gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn passed(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A seeded generator (SplitMix64), so that what failed once fails again. Clones go on together.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Arc<AtomicU64>);

impl Dice {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// A number below `end`, or 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).checked_rem(end).unwrap_or(0)
    }
}

/// Whether a pattern means a request.
pub(super) fn matches(pattern: &str, method: &str, path: &str) -> bool {
    match pattern.split_once(' ') {
        Some((wanted, pattern)) => wanted == method && star_matches(pattern, path),
        None => star_matches(pattern, path),
    }
}

pub(super) fn star_matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| star_matches(rest, &text[at..]))
}

#[test]
fn patterns_of_the_script_match_as_they_read() {
    let table = [
        ("/v2/*", "GET", "/v2/a", true),
        ("GET */blobs/*", "GET", "/v2/a/blobs/x", true),
        ("GET */blobs/*", "HEAD", "/v2/a/blobs/x", false),
        ("*/blobs/*", "GET", "/v2/a/manifests/x", false),
        ("/v2/", "GET", "/v2/a", false),
    ];
    for (pattern, method, path, expected) in table {
        assert_eq!(matches(pattern, method, path), expected, "{pattern} {method} {path}");
    }
}
