//! `pullthrough`: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use pullthrough::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
