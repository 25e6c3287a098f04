//! Keeps what a credential helper writes to its standard error: bounded, in one line, without what looks like a secret.
//!
//! Threat: helpers print tokens and requests when they fail, and logs are read by many. Defence: long words of letters and
//! digits, what follows a word such as `password`, and what stands before `@` or behind `?` in a URL, are left out.

use std::io::Read;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// So much is kept; what follows is read and dropped, so that the helper can go on.
const LIMIT: usize = 2 << 10;
/// So long the rest of what an ended helper wrote is waited for: something that it started may keep the pipe open.
const REST: Duration = Duration::from_millis(500);
/// A word of letters and digits that is as long as this is no word.
const LONG: usize = 20;
const HIDDEN: &str = "***";
/// What a secret is announced by.
const NAMES: [&str; 8] = ["password", "passwd", "secret", "token", "bearer", "basic", "authorization", "key"];

/// What a helper writes.
pub(crate) struct HelperWords {
    read: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl HelperWords {
    /// Reads on a thread of its own, to the end.
    pub(crate) fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, end) = mpsc::sync_channel(1);
        let read = Arc::new(Mutex::new(Vec::new()));
        let kept = read.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = LIMIT.saturating_sub(kept.len()).min(count);
                kept.extend_from_slice(&piece[..room]);
            }
            let _ = sender.send(()); // nobody may be waiting any more
        });
        Self { read, end }
    }

    /// One line of it; `None` where it wrote nothing.
    pub(crate) fn line(&self) -> Option<String> {
        let _ = self.end.recv_timeout(REST);
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let line = shown(&String::from_utf8_lossy(&read));
        (!line.is_empty()).then_some(line)
    }
}

/// The words in one line, without those that may be secrets.
fn shown(text: &str) -> String {
    let mut hide_next = false;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words: Vec<String> = words
        .map(|word| {
            let hide = std::mem::replace(&mut hide_next, announces(word));
            // "Bearer" after "Authorization:" is no secret itself, and announces one.
            if hide && !hide_next { HIDDEN.to_owned() } else { without_secrets(word) }
        })
        .collect();
    words.join(" ")
}

/// Whether the next word may be a secret.
fn announces(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase();
    let is_label = word.ends_with([':', '=']) || matches!(bare.as_str(), "bearer" | "basic");
    is_label && NAMES.iter().any(|name| bare.ends_with(name))
}

fn without_secrets(word: &str) -> String {
    let (word, query) = word.split_once('?').map_or((word, ""), |(before, _)| (before, "?***"));
    let word = match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://{HIDDEN}{}", &word[..scheme], &word[at..]),
        _ => word.to_owned(),
    };
    let lower = word.to_ascii_lowercase();
    let assigned = word.find(['=', ':']).filter(|at| {
        let name = lower[..*at].trim_matches(|c: char| !c.is_ascii_alphanumeric());
        NAMES.iter().any(|known| name.ends_with(known)) && at + 1 < word.len()
    });
    if let Some(at) = assigned {
        return format!("{}{HIDDEN}", &word[..=at]);
    }
    without_long(&word) + query
}

/// Replaces each long run of letters and digits that has both.
fn without_long(word: &str) -> String {
    let is_in = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-');
    let (mut out, mut rest) = (String::new(), word);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_in(c) != is_in(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let is_path = run.split('/').all(|part| part.len() < LONG);
        let has_both = run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic());
        out.push_str(if is_in(first) && has_both && !is_path { HIDDEN } else { run });
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_an_operator_is_shown_and_what_may_be_a_secret_is_not() {
        let table = [
            ("no credentials found\n", "no credentials found"),
            ("a\n\tb\x1b[31m c\r\n", "a b [31m c"),
            (
                "dial tcp: lookup sts.eu-central-1.amazonaws.com on 10.0.0.2:53: no such host",
                "dial tcp: lookup sts.eu-central-1.amazonaws.com on 10.0.0.2:53: no such host",
            ),
            (
                "open /var/lib/pullthrough/.ecr/cache.json: permission denied",
                "open /var/lib/pullthrough/.ecr/cache.json: permission denied",
            ),
            ("key AKIAIOSFODNN7EXAMPLE refused", "key *** refused"),
            ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", "got ***.***.***"),
            ("Authorization: Bearer abc", "Authorization: Bearer ***"),
            ("Authorization: Basic dTpw", "Authorization: Basic ***"),
            ("password=hunter2 user=x", "password=*** user=x"),
            (r#"{"Secret":"hunter2"}"#, r#"{"Secret":***"#),
            ("password: hunter2", "password: ***"),
            ("GET https://u:p@r.example.com/v2/?sig=x failed", "GET https://***@r.example.com/v2/?*** failed"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_flood_is_cut_and_read_to_its_end() {
        let words = HelperWords::read(std::io::Cursor::new("x ".repeat(1 << 20)));
        assert_eq!(words.line().unwrap().len(), LIMIT - 1);
        assert_eq!(HelperWords::read(std::io::empty()).line(), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_it_is_one_line(text in ".{0,200}") {
            proptest::prop_assert!(!shown(&text).contains(['\n', '\r', '\x1b']));
        }
    }
}
