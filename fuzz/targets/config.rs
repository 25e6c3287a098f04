//! A configuration's text: every mistake is told with its line, and what is accepted can be built.

use std::path::Path;

use super::load::judge;
use super::mistakes::mistake::ValueSource;
use super::mistakes::report::Report;
use super::source::ConfigSources;
use crate::proxy::Registry;

/// No text panics; each mistake is one line of text with a line that is in the file. What passes the check starts: its
/// registries and the names for the CA can be made.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // The paths that it names lead nowhere: what is on this machine decides nothing.
    let file = Path::new("/nonexistent/fuzz.yaml").to_owned();
    let mut report = Report::new(Some(file.clone()), text);
    let settings = judge(&ConfigSources::default(), Some(file.clone()), text, &mut report);
    match report.finish() {
        Ok(()) => {
            for registry in &settings.registries {
                assert!(Registry::new(registry).is_ok(), "{} passed the check", registry.name);
            }
            assert!(settings.permitted().is_ok());
        }
        Err(mistakes) => {
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count(); // as YAML counts them
            for mistake in mistakes.iter() {
                let ValueSource::File(of, Some(line)) = &mistake.place else { panic!("{mistake} has no line") };
                assert!(*of == file && (1..=lines + 1).contains(line), "{mistake} of {lines}");
                assert!(!mistake.text.is_empty());
                assert!(!mistake.to_string().chars().any(|c| matches!(c, '\n' | '\r' | '\x1b')), "{mistake:?}");
            }
        }
    }
}
