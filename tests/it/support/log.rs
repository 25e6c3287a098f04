//! What the proxy in process writes into its log, on the thread of the test.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;

/// The log since it was begun, from info up. Dropping it ends it.
pub(crate) struct Log {
    text: Text,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn begin() -> Self {
        let text = Text::default();
        let layer = fmt::layer().without_time().with_target(false).with_ansi(false).with_writer(text.clone());
        let ours =
            Targets::new().with_target("pullthrough", LevelFilter::INFO).with_target("access", LevelFilter::INFO);
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(ours).with(layer));
        Self { text, _guard: guard }
    }

    /// The warnings that hold all of `words`.
    pub(crate) fn warnings(&self, words: &[&str]) -> Vec<String> {
        self.lines("WARN", words)
    }

    /// The lines of this level that hold all of `words`.
    pub(crate) fn lines(&self, level: &str, words: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap();
        let is_meant =
            |line: &&str| line.trim_start().starts_with(level) && words.iter().all(|word| line.contains(word));
        text.lines().filter(is_meant).map(str::to_owned).collect()
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Text {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
