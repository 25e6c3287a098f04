//! Defines the command line: the commands, and the exit status of the program.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::ca::{self, CaCommand};
use super::cache::{self, CacheCommand};
use super::check::{self, CheckFlags};
use super::doctor::{self, DoctorFlags};
use super::flags::{ConfigFlag, ServeFlags};
use super::setup::{self, SetupFlags};
use super::trust::{self, TrustCommand};
use super::why::{self, WhyFlags};
use super::{generate, serve};
use crate::config::{self, Mistakes};
use crate::telemetry;

/// The command line of the program.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(
    name = "pullthrough",
    version,
    about = "Caching forward proxy for container images; clients set HTTPS_PROXY and trust its CA"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Run the proxy; without a configuration it caches the public registries
    Serve(ServeFlags),
    /// Validate the configuration; report every mistake with its line, its key and what was expected
    Check(CheckFlags),
    /// Create, show or seal the local certificate authority
    Ca {
        #[command(flatten)]
        config: ConfigFlag,
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Inspect and change the contents of the cache, whether or not the server is running
    Cache {
        #[command(flatten)]
        config: ConfigFlag,
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Add the CA to this machine's trust store, or remove it
    Trust {
        #[command(flatten)]
        config: ConfigFlag,
        /// Certificate of the CA [default: ca.crt in the configured CA directory]
        #[arg(long, value_name = "FILE", global = true)]
        ca: Option<PathBuf>,
        /// Root folder of another system to work on instead of this one
        #[arg(long, value_name = "DIR", global = true, hide = true)]
        root: Option<PathBuf>,
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// Print the configuration for one client, or write it with --apply
    Setup {
        #[command(flatten)]
        config: ConfigFlag,
        #[command(flatten)]
        flags: SetupFlags,
    },
    /// Test every step of a pull from this machine and tell you how to fix what fails
    Doctor {
        #[command(flatten)]
        config: ConfigFlag,
        #[command(flatten)]
        flags: DoctorFlags,
    },
    /// Explain what the configuration and the cache say about an image: freshness, platforms, who may read it
    Why {
        #[command(flatten)]
        config: ConfigFlag,
        #[command(flatten)]
        flags: WhyFlags,
    },
    /// Print shell completions
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man {
        /// Write one page per command into this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Cli {
    /// Runs the command and reports a failure on standard error.
    #[must_use]
    pub fn run(self) -> ExitCode {
        // Who reads the log of a service as JSON reads why it has ended there, too.
        let service = if let Command::Serve(flags) = &self.command { Some(flags.sources()) } else { None };
        match self.command.run(&mut io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, service.as_ref().is_some_and(config::logs_json)),
        }
    }
}

impl Command {
    fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Serve(flags) => serve::run(&flags),
            Self::Check(flags) => check::run(&flags, out),
            Self::Ca { config, command } => {
                let settings = config::load(&config.sources())?;
                let permitted = settings.signed()?;
                ca::run(&command, &settings.ca, &permitted, out)
            }
            Self::Trust { config, ca, root, command } => {
                let ca = match ca {
                    Some(ca) => ca,
                    None => config::load(&config.sources())?.ca.dir.join("ca.crt"),
                };
                trust::run(&command, &ca, root.as_deref(), out)
            }
            Self::Setup { config, flags } => setup::run(&flags, &config::load(&config.sources())?, out),
            Self::Doctor { config, flags } => doctor::run(&flags, &config::load(&config.sources())?, out),
            Self::Why { config, flags } => why::run(&flags, &config::load(&config.sources())?, out),
            Self::Completions { shell } => generate::completions(Cli::command(), shell, out),
            Self::Man { dir } => generate::man(Cli::command(), dir.as_deref(), out),
            Self::Cache { config, command } => cache::run(&command, &config::load(&config.sources())?, out),
        }
    }
}

/// Prints the mistakes of a configuration, one a line, or any other error as one sentence with its causes. A closed
/// standard error is ignored.
fn failed(error: &anyhow::Error, as_json: bool) -> ExitCode {
    let (text, code) = match error.downcast_ref::<Mistakes>() {
        Some(mistakes) => (mistakes.to_string(), 2),
        None if as_json => (format!("{error:#}"), 1),
        None => (format!("pullthrough: {error:#}"), 1),
    };
    if as_json {
        telemetry::fatal(&text);
    } else {
        let _ = writeln!(io::stderr(), "{text}");
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_exit_with_2_and_failures_with_1() {
        let mut flag = ConfigFlag::default();
        flag.config = Some("no/such/file.yaml".into());
        let sources = flag.sources();
        let mistakes = config::load(&sources).unwrap_err();
        assert_eq!(failed(&mistakes.into(), false), ExitCode::from(2));
        assert_eq!(failed(&anyhow::anyhow!("no").context("it failed"), false), ExitCode::from(1));
    }
}
