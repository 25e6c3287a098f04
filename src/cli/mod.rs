//! The commands, one file each.
//!
//! Flow: [`Cli`] is parsed; [`Cli::run`] runs the command and turns its outcome into an exit status: 0 done,
//! 1 it failed, 2 wrong usage (said by the parser) or a wrong configuration.
//! Scope: reads arguments, prints for people. What a command does is done by the rooms below.
//! Never: offer what is not built.
//! Reading: CONTRACT.md, "Commands".

mod check;
mod flags;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Mistakes;

pub use check::CheckFlags;
pub use flags::{ConfigFlag, ServeFlags};

/// A caching forward proxy for container images.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "pullthrough", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Validate a configuration: every mistake with its line, its key and what was expected
    Check(CheckFlags),
    // HOOK serve: /// Run the proxy
    // HOOK serve: Serve(ServeFlags),
    // HOOK ca: /// The local certificate authority
    // HOOK ca: Ca { #[command(subcommand)] command: CaCommand, #[command(flatten)] config: ConfigFlag },
}

impl Cli {
    /// Runs the command; what fails is told on standard error.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Check(flags) => check::run(&flags, &mut io::stdout()),
            // HOOK serve: Command::Serve(flags) => serve::run(flags),
            // HOOK ca: Command::Ca { command, config } => ca::run(&command, ..., &mut io::stdout()),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    }
}

/// Mistakes stand for themselves, a line each; anything else is one sentence with its causes.
fn failed(error: &anyhow::Error) -> ExitCode {
    let mut stderr = io::stderr();
    // Where standard error is closed there is nobody to tell.
    if let Some(mistakes) = error.downcast_ref::<Mistakes>() {
        let _ = writeln!(stderr, "{mistakes}");
        return ExitCode::from(2);
    }
    let _ = writeln!(stderr, "pullthrough: {error:#}");
    ExitCode::from(1)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_exit_with_2_and_failures_with_1() {
        let sources = ConfigFlag { config: Some("no/such/file.yaml".into()) }.sources();
        let mistakes = crate::config::load(&sources).unwrap_err();
        assert_eq!(failed(&mistakes.into()), ExitCode::from(2));
        assert_eq!(failed(&anyhow::anyhow!("no").context("it failed")), ExitCode::from(1));
    }
}
