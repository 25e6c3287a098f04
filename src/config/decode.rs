//! Decodes a tree into the sections, and goes on past every key that does not fit.

use serde_path_to_error::Segment;
use serde_yaml::Value;

use super::file::File;
use super::mistakes::phrase::phrase;
use super::mistakes::report::{LIMIT, Report};
use super::tree::{KeyPath, PathStep, cut, find};

/// Decodes the sections. Each key that does not fit is reported and cut out of `root`, so that the next one is
/// found.
pub(super) fn decode(root: &mut Value, report: &mut Report<'_>) -> File {
    while report.count() < LIMIT {
        let error = match serde_path_to_error::deserialize::<_, File>(&*root) {
            Ok(file) => return file,
            Err(error) => error,
        };
        let message = error.inner().to_string();
        let path = blamed(error.path(), &message);
        // A key that was cut out is not missing.
        if missing(&message).is_none_or(|key| report.is_clean(&path.key(key))) {
            report.say(&path, phrase(&message, find(root, &path)));
        }
        if !cut(root, &path) {
            break; // the root itself is not a mapping
        }
        report.note_cut(&path);
    }
    File::default()
}

/// The path at fault. The library blames the mapping for an unknown key; we blame the key itself.
fn blamed(path: &serde_path_to_error::Path, message: &str) -> KeyPath {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(PathStep::Index(*index)),
        Segment::Map { key } => Some(PathStep::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    let mut steps: Vec<PathStep> = path.iter().filter_map(step).collect();
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    if let Some(key) = unknown.map(|key| PathStep::Key(key.to_owned()))
        && steps.last() != Some(&key)
    {
        steps.push(key);
    }
    KeyPath(steps)
}

fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}
