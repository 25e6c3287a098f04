//! Held credentials: each entry has one source, whose file or program is there.

use std::path::Path;

use super::report::Report;
use super::tree::KeyPath;
use crate::upstream::{CredentialConfig, Held};

/// Judges the entries below `path`; their files become relative to the configuration's folder.
pub(super) fn judge(held: &mut Held, folder: &Path, path: &KeyPath, report: &mut Report<'_>) {
    if held.0.is_empty() && report.is_clean(path) {
        report.say(path, "holds no credentials; expected one, or client or anonymous");
    }
    let one = held.0.len() == 1;
    for (index, entry) in held.0.iter_mut().enumerate() {
        // One entry may stand without a list, and then at the key itself.
        let path = if one { path.clone() } else { path.index(index) };
        judge_entry(entry, folder, &path, report);
    }
}

fn judge_entry(entry: &mut CredentialConfig, folder: &Path, path: &KeyPath, report: &mut Report<'_>) {
    for file in [&mut entry.password_file, &mut entry.docker_config] {
        *file = file.take().map(|file| folder.join(file));
    }
    if let Some((key, problem)) = entry.problem() {
        // What was cut out for another mistake is not missing.
        if report.is_clean(path) {
            report.say(&if key.is_empty() { path.clone() } else { path.key(key) }, problem);
        }
        return;
    }
    if let Err((key, problem)) = entry.probe() {
        report.say(&path.key(key), problem);
    }
}
