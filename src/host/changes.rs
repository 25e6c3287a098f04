//! Watches files, and tells when they have changed and then stayed the same.
//!
//! It uses stat, not inotify: a ConfigMap's swap of symbolic links, a network file system and a file that does not exist
//! yet look the same to it, and a handful of stats costs nothing.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file that was written a moment ago may be incomplete.
const SETTLED: Duration = Duration::from_secs(1);

/// Tells when a set of files has changed and then stayed the same for a second.
#[derive(Debug)]
pub struct Changes {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    since: Option<Instant>,
    /// Those that have changed since then.
    changed: Vec<PathBuf>,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Changes {
    /// Watches `files` from their current state. Blocks on the file system, as all methods do.
    #[must_use]
    pub fn of(files: Vec<PathBuf>) -> Self {
        let seen = stamps(&files);
        Self { files, seen, since: None, changed: Vec::new() }
    }

    /// Watches these files from now on. A change that was not reported yet is still reported.
    pub fn watch(&mut self, files: Vec<PathBuf>) {
        if files == self.files {
            return;
        }
        let stamp = |file: &PathBuf| {
            let known = self.files.iter().position(|known| known == file);
            known.and_then(|at| self.seen.get(at).copied()).unwrap_or_else(|| stamp(file))
        };
        self.seen = files.iter().map(stamp).collect();
        self.files = files;
    }

    /// Checks again: the files that have changed and been unchanged since. Each change is answered once.
    pub fn look(&mut self, now: Instant) -> Vec<PathBuf> {
        let stamps = stamps(&self.files);
        if stamps != self.seen {
            let changed = self.files.iter().zip(stamps.iter().zip(&self.seen)).filter(|(_, (now, seen))| now != seen);
            let news: Vec<_> =
                changed.map(|(file, _)| file.clone()).filter(|file| !self.changed.contains(file)).collect();
            self.changed.extend(news);
            self.seen = stamps;
            self.since = Some(now);
            return Vec::new();
        }
        if self.since.is_none_or(|since| now.saturating_duration_since(since) < SETTLED) {
            return Vec::new();
        }
        self.since = None;
        std::mem::take(&mut self.changed)
    }
}

/// Follows symbolic links, as Kubernetes swaps them; no stamp for a missing file.
fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Option<Stamp> {
    file.metadata().ok().as_ref().map(Stamp::of)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Looks at these moments, in milliseconds, and answers those at which a change was told.
    fn told(changes: &mut Changes, start: Instant, moments: &[u64]) -> Vec<u64> {
        moments.iter().copied().filter(|at| !changes.look(start + Duration::from_millis(*at)).is_empty()).collect()
    }

    #[test]
    fn a_change_is_told_once_when_it_has_been_at_rest_for_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        fs::write(&file, "one").unwrap();
        let mut changes = Changes::of(vec![file.clone()]);
        let start = Instant::now();
        assert_eq!(told(&mut changes, start, &[0, 5000]), [0; 0]);
        fs::write(&file, "a half").unwrap();
        assert_eq!(told(&mut changes, start, &[6000, 6900]), [0; 0]);
        fs::write(&file, "a half and the rest").unwrap();
        assert_eq!(told(&mut changes, start, &[6950, 7900, 7950, 8000, 20_000]), [7950]);
        fs::remove_file(&file).unwrap();
        assert_eq!(told(&mut changes, start, &[30_000, 31_000, 32_000]), [31_000], "gone is a change too");
    }

    #[test]
    fn a_swap_of_links_above_the_file_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("f"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/f", at("f")).unwrap();
        let mut changes = Changes::of(vec![at("f")]);
        let start = Instant::now();
        symlink("..2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        assert_eq!(told(&mut changes, start, &[0, 1000, 2000]), [1000]);
    }

    #[test]
    fn another_set_of_files_loses_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        fs::write(&one, "one").unwrap();
        let mut changes = Changes::of(vec![one.clone()]);
        let start = Instant::now();
        fs::write(&one, "more").unwrap();
        assert!(changes.look(start).is_empty());
        changes.watch(vec![one.clone(), two.clone()]);
        assert_eq!(changes.look(start + Duration::from_secs(1)), std::slice::from_ref(&one), "and it is named");
        assert_eq!(told(&mut changes, start, &[2000]), [0; 0]);
        fs::write(&one, "and more").unwrap();
        changes.watch(vec![two.clone(), one]);
        assert_eq!(told(&mut changes, start, &[2100, 3200]), [3200], "also one that nobody has looked at yet");
        fs::write(&two, "two").unwrap();
        assert_eq!(told(&mut changes, start, &[4000, 5000]), [5000]);
    }
}
