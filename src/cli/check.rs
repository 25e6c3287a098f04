//! Implements `pullthrough check`: validates the configuration.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::flags::{ConfigFlag, Print, print_json};
use crate::config::{self, Mistake, Mistakes, Settings, ValueSource};

/// The configuration to check, and the output format.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct CheckFlags {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    print: Print,
}

/// Checks the configuration, and the CA against it, and writes the notices and a one-line summary to `out`.
///
/// # Errors
/// The mistakes of the configuration, or an error of reading the CA's folder or of writing to `out`.
pub(super) fn run(flags: &CheckFlags, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut settings = match judged(&flags.config)? {
        Ok(settings) => settings,
        Err(mistakes) => {
            if flags.print.json {
                let told: Vec<Value> = mistakes.iter().map(mistake).collect();
                print_json(out, &json!({"ok": false, "mistakes": told}))?;
            }
            return Err(mistakes.into());
        }
    };
    settings.notices.extend(config::check_root(&settings)?);
    if flags.print.json {
        let told = json!({
            "ok": true,
            "file": settings.file,
            "registries": names(&settings),
            "notices": settings.notices,
            "mistakes": [],
        });
        return Ok(print_json(out, &told)?);
    }
    for notice in &settings.notices {
        writeln!(out, "note: {notice}")?;
    }
    writeln!(out, "{}", summary(&settings))?;
    Ok(())
}

/// The inner error holds the mistakes; the outer one says why the check could not be made.
fn judged(config: &ConfigFlag) -> anyhow::Result<Result<Settings, Mistakes>> {
    let settings = match config::load(&config.sources()) {
        Ok(settings) => settings,
        Err(mistakes) => return Ok(Err(mistakes)),
    };
    Ok(config::check_sealed(&settings)?.map_or(Ok(settings), Err))
}

/// Fields that do not apply are null.
fn mistake(mistake: &Mistake) -> Value {
    let (mut file, mut line, mut variable, mut flag) = (None, None, None, None);
    match &mistake.place {
        ValueSource::File(path, at) => (file, line) = (Some(path), *at),
        ValueSource::Variable(name) => variable = Some(name),
        ValueSource::Flag(name) => flag = Some(name),
        ValueSource::Defaults => {}
    }
    let key = Some(&mistake.key).filter(|key| !key.is_empty());
    json!({"file": file, "line": line, "variable": variable, "flag": flag, "key": key, "text": mistake.text})
}

fn names(settings: &Settings) -> Vec<&str> {
    settings.registries.iter().map(|registry| registry.name.as_str()).collect()
}

fn summary(settings: &Settings) -> String {
    let what = match &settings.file {
        Some(file) => format!("{}: no mistakes", file.display()),
        None => "no configuration file, so the defaults apply: no mistakes".to_owned(),
    };
    let names = names(settings);
    let noun = if names.len() == 1 { "registry" } else { "registries" };
    format!("{what}; {} {noun}: {}", names.len(), names.join(", "))
}
