//! The entry point: parses the arguments, runs the command, returns its exit code.

use std::process::ExitCode;

use clap::Parser;
use pullthrough::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
