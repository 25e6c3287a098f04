//! What the proxy's log says at the end: errors, panics, warnings by kind, answers by status.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::windows::Windows;

/// A line that belongs to what the soak does, by some of its words.
struct Expected {
    words: &'static str,
    /// Only near a window.
    near: bool,
    /// At most so often, for each thousand answers.
    rate: u64,
}

const EXPECTED: [Expected; 7] = [
    Expected { words: "the registry is unreachable", near: true, rate: 1 },
    Expected { words: "an endpoint is unreachable", near: true, rate: 1 },
    Expected { words: "a request could not be forwarded", near: true, rate: 1 },
    // An outage may last longer than a large download tries. What has landed is kept.
    Expected { words: "gave up a fill: its upstream does not deliver the blob", near: true, rate: 1 },
    // Connections are cut outside of windows, too: that is what nobody is to notice.
    Expected { words: "the upstream cut off the response; requesting the rest", near: false, rate: 1 },
    // What is read, staged or pinned cannot go, and that is sometimes more than this small cache holds.
    Expected { words: "the cache cannot free what it should", near: false, rate: 1 },
    Expected {
        words: "the cache cannot store the rest of this blob; its clients are served without it",
        near: false,
        rate: 1,
    },
];
/// A warning may come so long before a window is opened or after it was closed.
const NEAR: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Default)]
pub(super) struct Log {
    pub(super) lines: u64,
    /// Messages with the number of times.
    pub(super) expected: BTreeMap<String, u64>,
    pub(super) unexpected: BTreeMap<String, (u64, String)>,
    /// Answers by status; those of 5xx outside of windows apart, with a line of each kind.
    pub(super) answers: BTreeMap<u64, u64>,
    pub(super) failed: BTreeMap<String, (u64, String)>,
}

impl Log {
    /// Reads all of it. `clock` is one moment by both clocks.
    pub(super) fn read(file: &Path, windows: &Windows, clock: (SystemTime, Instant)) -> Self {
        let mut log = Self::default();
        let mut reader = BufReader::new(File::open(file).unwrap());
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).unwrap() > 0 {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            log.lines += 1;
            match serde_json::from_str::<Value>(&text) {
                Ok(line) if line.is_object() => log.line(&line, &text, windows, clock),
                // The banner is plain text, and so is a panic.
                _ if text.contains("panicked at") => log.note("panic", &text),
                _ => {}
            }
            bytes.clear();
        }
        log
    }

    fn line(&mut self, line: &Value, text: &str, windows: &Windows, clock: (SystemTime, Instant)) {
        let near = || {
            let time = humantime::parse_rfc3339(line["timestamp"].as_str().unwrap_or_default());
            let since = time.ok().and_then(|time| time.duration_since(clock.0).ok()).unwrap_or_default();
            windows.touched(clock.1 + since, NEAR)
        };
        let message = line["message"].as_str().unwrap_or_default();
        if message == "access" {
            let status = line["status"].as_u64().unwrap_or_default();
            *self.answers.entry(status).or_default() += 1;
            if status >= 500 && !near() {
                let kind = format!("{status} to a {} of {}", line["kind"], line["registry"]);
                let entry = self.failed.entry(kind).or_insert_with(|| (0, text.to_owned()));
                entry.0 += 1;
            }
            return;
        }
        let level = line["level"].as_str().unwrap_or_default();
        if !matches!(level, "ERROR" | "WARN") {
            return;
        }
        let kind = format!("{level} {message}");
        let expected = EXPECTED.iter().find(|expected| message.contains(expected.words));
        if expected.is_some_and(|expected| !expected.near || near()) {
            *self.expected.entry(kind).or_default() += 1;
        } else {
            self.note(&kind, text);
        }
    }

    /// What was expected, and came too often.
    pub(super) fn too_often(&self) -> impl Iterator<Item = (&str, u64)> {
        let thousands = self.answers.values().sum::<u64>() / 1000 + 1;
        let found = self.expected.iter().filter(move |(kind, times)| {
            let expected = EXPECTED.iter().find(|expected| kind.contains(expected.words));
            expected.is_some_and(|expected| **times > expected.rate * thousands)
        });
        found.map(|(kind, times)| (kind.as_str(), *times))
    }

    fn note(&mut self, kind: &str, text: &str) {
        let entry = self.unexpected.entry(kind.to_owned()).or_insert_with(|| (0, text.to_owned()));
        entry.0 += 1;
    }
}
