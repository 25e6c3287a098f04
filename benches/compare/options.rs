//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

const USAGE: &str = "usage: cargo bench --bench compare -- [options]
  --quick            small content, one round: under two minutes
  --only TEXT        only scenarios whose name contains TEXT; may be repeated
  --peer TEXT        only peers whose name contains TEXT; may be repeated
  --rounds N         how often everything is measured (default 3; quick: 1)
  --seconds S        how long each hot figure is measured (default 1; quick: 0.4)
  --binary PATH      the pullthrough to measure, instead of the one just built
  --also NAME=PATH   another pullthrough beside it, to compare two builds; may be repeated";

/// What is to be measured, and how thoroughly.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) only: Vec<String>,
    pub(crate) peers: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    pub(crate) binary: PathBuf,
    pub(crate) also: Vec<(String, PathBuf)>,
}

impl Options {
    /// Reads the arguments; the error is what to print.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.filter(|argument| argument != "--bench"); // cargo's own word
        let mut options = Self {
            quick: false,
            only: Vec::new(),
            peers: Vec::new(),
            rounds: 0,
            window: Duration::ZERO,
            binary: env!("CARGO_BIN_EXE_pullthrough").into(),
            also: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            let wrong = |value: &str| format!("{argument}: {value:?} is not understood\n{USAGE}");
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--only" => options.only.push(value()?),
                "--peer" => options.peers.push(value()?),
                "--rounds" => {
                    let text = value()?;
                    options.rounds = text.parse().map_err(|_| wrong(&text))?;
                }
                "--seconds" => {
                    let text = value()?;
                    let seconds: f64 = text.parse().map_err(|_| wrong(&text))?;
                    options.window = Duration::try_from_secs_f64(seconds).map_err(|_| wrong(&text))?;
                }
                "--binary" => options.binary = path(&value()?),
                "--also" => {
                    let text = value()?;
                    let (name, path) = text.split_once('=').ok_or_else(|| wrong(&text))?;
                    options.also.push((name.to_owned(), self::path(path)));
                }
                _ => return Err(USAGE.to_owned()),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 1 } else { 3 };
        }
        if options.window.is_zero() {
            options.window = Duration::from_millis(if options.quick { 400 } else { 1000 });
        }
        Ok(options)
    }

    /// Whether a scenario of this name is wanted.
    pub(crate) fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| scenario.contains(part.as_str()))
    }

    /// Whether a peer of this name is wanted.
    pub(crate) fn wants_peer(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|part| peer.contains(part.as_str()))
    }
}

/// Absolute, since a bare name would be looked for on the path.
fn path(text: &str) -> PathBuf {
    std::path::absolute(text).unwrap_or_else(|_| text.into())
}
