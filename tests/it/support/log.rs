//! What the proxy in process writes into its log, on the thread of the test.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;

/// The log since it was begun, from info up. Dropping it ends it.
pub(crate) struct Log {
    text: Text,
    _guard: DefaultGuard,
    /// While there is only one, what is first said on a thread without it is never heard again (tracing-core).
    _another: Dispatch,
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
        Self { text, _guard: guard, _another: Dispatch::new(NoSubscriber::new()) }
    }

    /// The warnings that hold all of `words`.
    pub(crate) fn warnings(&self, words: &[&str]) -> Vec<String> {
        self.lines("WARN", words)
    }

    /// The lines of this level that hold all of `words`.
    pub(crate) fn lines(&self, level: &str, words: &[&str]) -> Vec<String> {
        self.with(words).into_iter().filter(|line| line.trim_start().starts_with(level)).collect()
    }

    /// The lines that hold all of `words`, access lines included.
    pub(crate) fn with(&self, words: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
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
