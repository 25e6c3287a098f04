//! The log, the access lines and the metrics say what happens and why, once each.

mod access;
mod gauges;
mod outages;
mod program;

use std::io;
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;

/// All that the proxy in process logs on this thread, access lines included.
struct Lines {
    text: Text,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn begin() -> Self {
        let text = Text::default();
        let layer = fmt::layer().without_time().with_target(false).with_ansi(false).with_writer(text.clone());
        let ours =
            Targets::new().with_target("pullthrough", LevelFilter::INFO).with_target("access", LevelFilter::INFO);
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(ours).with(layer));
        Self { text, _guard: guard }
    }

    /// The lines that hold all of `words`.
    fn with(&self, words: &[&str]) -> Vec<String> {
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
