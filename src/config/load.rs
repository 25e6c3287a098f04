//! Loads a configuration: reads, decodes, overlays and checks it.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use super::base::Base;
use super::decode::decode;
use super::judge::check;
use super::mistakes::locate;
use super::mistakes::mistake::{Mistakes, ValueSource};
use super::mistakes::report::{LIMIT, Report};
use super::settings::{DRAIN, Settings};
use super::source::ConfigSources;
use super::tree::{self, KeyPath};
use super::{environment, predecessor};

/// The directory in the cache directory that credential helpers may write to.
const HELPERS: &str = "helpers";

/// Reads and checks a configuration.
///
/// # Errors
/// All mistakes in it.
pub fn load(sources: &ConfigSources) -> Result<Settings, Mistakes> {
    let file = sources.file().map(Path::to_owned);
    let mut unread = Report::new(file.clone(), "");
    let text = sources.read(&mut unread);
    unread.finish()?;
    let mut report = Report::new(file.clone(), &text);
    let settings = judge(sources, file, &text, &mut report);
    report.finish()?;
    Ok(settings)
}

/// Whether the log is to be JSON, as far as a configuration says so that may be wrong otherwise.
#[must_use]
pub fn logs_json(sources: &ConfigSources) -> bool {
    let variable = sources.environment.get("PULLTHROUGH_LOG_FORMAT").filter(|text| !text.is_empty());
    if let Some(format) = variable {
        return format == "json";
    }
    let text = sources.read(&mut Report::new(None, ""));
    match tree::parse(&text) {
        Ok(tree) => tree::find(&tree.root, &KeyPath::of(["log", "format"])).is_some_and(|format| format == "json"),
        Err(_) => text.lines().any(|line| line.trim_start().starts_with("format:") && line.contains("json")),
    }
}

/// Reads again the configuration that `current` was read from.
///
/// # Errors
/// All mistakes; also a file that no longer exists, since the defaults would not be intended.
pub fn reload(sources: &ConfigSources, current: &Settings) -> Result<Settings, Mistakes> {
    match &current.file {
        Some(file) if sources.file() != Some(file) => {
            let mut report = Report::new(None, "");
            report
                .say_of(ValueSource::File(file.clone(), None), "no longer exists; expected the file that is in effect");
            report.finish()?;
        }
        _ => {}
    }
    load(sources)
}

/// Turns a text into settings, which are valid only if the report stays empty.
pub(super) fn judge(sources: &ConfigSources, file: Option<PathBuf>, text: &str, report: &mut Report<'_>) -> Settings {
    let mut root = parse(file.as_deref(), text, report);
    // The file alone first: a variable that overrides a mistake does not fix it.
    decode(&mut root, report);
    let mut notices = match &file {
        None => predecessor::overlay(&mut root, sources, report),
        Some(_) => Vec::new(),
    };
    environment::overlay(&mut root, sources, report);
    let mut sections = decode(&mut root, report);
    let mut base = Base::of(file.as_deref(), sources);
    for (path, dir) in [(["ca", "dir"], &mut sections.ca.dir), (["cache", "dir"], &mut sections.cache.dir)] {
        let path = KeyPath::of(path);
        if tree::find(&root, &path).is_some() && !report.is_overridden(&path) {
            *dir = base.join(dir);
        }
    }
    base.home = Some(sections.cache.dir.join(HELPERS));
    let registries = check::check(&mut sections, &base, report);
    notices.extend(report.notices());
    Settings {
        file,
        notices,
        listen: sections.listen,
        mirror: sections.mirror,
        ca: sections.ca,
        cache: sections.cache,
        fill: sections.fill,
        registries,
        clients: sections.clients,
        upstream: sections.upstream,
        tunnel: sections.tunnel,
        log: sections.log,
        drain: sections.drain.unwrap_or(DRAIN),
    }
}

fn parse(file: Option<&Path>, text: &str, report: &mut Report<'_>) -> Value {
    match tree::parse(text) {
        Ok(tree) => {
            let mut seen: Vec<&KeyPath> = Vec::new();
            for path in tree.duplicates.iter().take(LIMIT) {
                let nth = 1 + seen.iter().filter(|earlier| **earlier == path).count();
                seen.push(path);
                report.say_nth(path, nth, "duplicate key; expected each key once");
            }
            tree.root
        }
        Err(error) => {
            let line = error.location().map(|location| location.line()).or_else(|| locate::second_document(text));
            let place = file.map_or(ValueSource::Defaults, |file| ValueSource::File(file.to_owned(), line));
            report.say_of(place, format!("not valid YAML: {}", words(&error)));
            Value::Mapping(Mapping::new())
        }
    }
}

/// The library's message without the place that it names, and with the fix for the most frequent mistake: to YAML,
/// `*.pkg.dev` is an alias, and `::1` in brackets is not a value.
fn words(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let words = text.split(" at line ").next().unwrap_or(&text);
    let unquoted = words.contains("node content") || words.contains("alphabetic or numeric character");
    let fix = if unquoted { "; a value that begins with * or : needs quotes, as in '*.pkg.dev' and '::1'" } else { "" };
    format!("{words}{fix}")
}

#[cfg(test)]
mod tests;
