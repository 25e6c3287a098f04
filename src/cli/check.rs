//! `pullthrough check`: is this configuration right?

use std::io::Write;

use clap::Args;

use super::ConfigFlag;
use crate::config::{self, Settings};

/// The flags of `check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct CheckFlags {
    #[command(flatten)]
    config: ConfigFlag,
}

/// Checks the configuration and writes one line about it to `out`.
///
/// # Errors
/// The configuration's mistakes; and what writing to `out` says.
pub(super) fn run(flags: &CheckFlags, out: &mut dyn Write) -> anyhow::Result<()> {
    let settings = config::load(&flags.config.sources())?;
    writeln!(out, "{}", summary(&settings))?;
    Ok(())
}

fn summary(settings: &Settings) -> String {
    let what = match &settings.file {
        Some(file) => format!("{}: no mistakes", file.display()),
        None => "no configuration file, so the defaults hold: no mistakes".to_owned(),
    };
    let names: Vec<&str> = settings.registries.iter().map(|registry| registry.name.as_str()).collect();
    let noun = if names.len() == 1 { "registry" } else { "registries" };
    format!("{what}; {} {noun}: {}", names.len(), names.join(", "))
}
