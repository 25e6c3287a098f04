//! What a soak is told by `tests/soak`, through the environment, and when what happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::proxy::PROGRAM;

/// How long, and where its figures go.
pub(super) struct Plan {
    /// How long clients pull.
    pub(super) length: Duration,
    out: PathBuf,
}

/// A third of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Third {
    First,
    Second,
    Last,
}

impl Third {
    /// The third in which `at` lies, of so long a time.
    pub(super) fn of(at: Duration, length: Duration) -> Self {
        match at {
            at if at < length / 3 => Self::First,
            at if at < length * 2 / 3 => Self::Second,
            _ => Self::Last,
        }
    }
}

impl Plan {
    /// Reads `SOAK_MINUTES`, `SOAK_OUT` and `SOAK_PROGRAM`.
    pub(super) fn from_environment() -> Self {
        let minutes =
            std::env::var("SOAK_MINUTES").map_or(60.0, |text| text.parse().expect("SOAK_MINUTES is a number"));
        let out = std::env::var_os("SOAK_OUT").map_or_else(|| PathBuf::from("target/soak"), PathBuf::from);
        fs::create_dir_all(&out).unwrap();
        if let Some(program) = std::env::var_os("SOAK_PROGRAM") {
            let program = fs::canonicalize(program).expect("SOAK_PROGRAM is a file");
            PROGRAM.set(program).expect("nobody has set it yet");
        }
        Self { length: Duration::from_secs_f64(minutes * 60.0), out }
    }

    /// How long the proxy is left alone between two disturbances.
    pub(super) fn pause(&self) -> Duration {
        (self.length / 60).clamp(Duration::from_secs(4), Duration::from_secs(45))
    }

    /// How often the process is measured.
    pub(super) fn measured(&self) -> Duration {
        (self.length / 60).clamp(Duration::from_secs(2), Duration::from_secs(10))
    }

    /// In which third a moment is.
    pub(super) fn third(&self, begin: Instant) -> Third {
        Third::of(begin.elapsed(), self.length)
    }

    /// Keeps a file.
    pub(super) fn keep(&self, file: &Path) {
        fs::copy(file, self.out.join(file.file_name().unwrap())).unwrap();
    }

    /// Writes a file of figures.
    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.out.join(name), text).unwrap();
    }
}
