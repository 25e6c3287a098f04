//! Keeps what a credential helper writes to its standard error: bounded, in one line, without what looks like a secret.
//!
//! Threat: helpers print tokens and requests when they fail, and logs are read by many. Defence: long words of letters and
//! digits, what follows a word such as `password` in its line, and what stands before `@` or behind `?` in a URL, are left out.

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
    let lines = text.split(['\n', '\r']).map(shown_line).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// One line up to the first word that announces a secret.
fn shown_line(line: &str) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut words = line.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let lower = word.to_ascii_lowercase();
        if let Some(at) = NAMES.iter().filter_map(|name| Some(lower.find(name)? + name.len())).min() {
            let is_last = at == word.len() && words.next().is_none();
            shown.push(if is_last {
                word.to_owned()
            } else {
                format!("{}{HIDDEN}", word.get(..at).unwrap_or_default())
            });
            break;
        }
        shown.push(without_long(&without_url_secrets(word)));
        if matches!(word, "-u" | "--user" | "-p") && words.next().is_some() {
            shown.push(HIDDEN.to_owned());
        }
    }
    shown.join(" ")
}

fn without_url_secrets(word: &str) -> String {
    let (word, query) = word.split_once('?').map_or((word, ""), |(before, _)| (before, "?***"));
    match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://{HIDDEN}{}{query}", &word[..scheme], &word[at..]),
        _ => format!("{word}{query}"),
    }
}

/// Replaces each long run of letters and digits that has both.
fn without_long(word: &str) -> String {
    let is_in = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-');
    let (mut out, mut rest) = (String::new(), word);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_in(c) != is_in(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let is_path = run.starts_with('/') && run.split('/').all(|part| part.len() < LONG);
        let has_both = run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic());
        out.push_str(if is_in(first) && has_both && run.len() >= LONG && !is_path { HIDDEN } else { run });
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
            ("id AKIAIOSFODNN7EXAMPLE refused", "id *** refused"),
            ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", "got ***.***.***"),
            ("id wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE", "id ***"),
            ("Authorization: Bearer abc\nnext line", "Authorization*** next line"),
            ("no such token", "no such token"),
            ("password=hunter2 user=x", "password***"),
            ("user=x&password=hunter2", "user=x&password***"),
            (
                r#"{"ServerURL":"https://r","Username":"u","Secret":"hunter2"}"#,
                r#"{"ServerURL":"https://r","Username":"u","Secret***"#,
            ),
            ("password: two words", "password***"),
            ("curl -u bob:hunter2 failed", "curl -u *** failed"),
            ("login --password hunter2", "login --password***"),
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
