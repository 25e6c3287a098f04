//! `pullthrough check`: is this configuration right?

use std::io::Write;

use super::flags::ConfigFlag;
use crate::config::{self, Settings};

/// Checks the configuration, and the CA against it, and writes to `out` what a person should know, and one line about it.
///
/// # Errors
/// The configuration's mistakes; what the CA's folder and writing to `out` say.
pub(super) fn run(config: &ConfigFlag, out: &mut dyn Write) -> anyhow::Result<()> {
    let settings = config::load(&config.sources())?;
    if let Some(mistakes) = config::check_sealed(&settings)? {
        return Err(mistakes.into());
    }
    for notice in &settings.notices {
        writeln!(out, "note: {notice}")?;
    }
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
