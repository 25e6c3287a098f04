//! Reads a file again when it has changed, so that a rotated secret needs no restart.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::changes::Stamp;

/// A write within this time of an earlier one may leave the same stamp (file systems count in ticks), so a
/// younger file is read once more.
const SETTLED: Duration = Duration::from_secs(1);

/// A file and its state when it was last read.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    limit: u64,
    seen: Mutex<Option<Stamp>>,
}

impl WatchedFile {
    /// A file of at most `limit` bytes that was not read yet.
    #[must_use]
    pub fn new(path: PathBuf, limit: u64) -> Self {
        Self { path, limit, seen: Mutex::new(None) }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, unless they are unchanged since the last read. Symbolic links are followed again each time, as
    /// Kubernetes swaps them. Blocks on the file system.
    ///
    /// # Errors
    /// An error of the system, or [`io::ErrorKind::FileTooLarge`]; the next call reads again.
    pub fn read_if_changed(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let stamp = Stamp::of(&metadata);
        if *seen == Some(stamp) {
            return Ok(None);
        }
        *seen = None;
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(stamp.size.min(self.limit)).unwrap_or(0)));
        file.take(self.limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if age.is_some_and(|age| age >= SETTLED) {
            *seen = Some(stamp);
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn text(file: &WatchedFile) -> Option<String> {
        file.read_if_changed().unwrap().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn written(path: &Path, text: &str, age: u64) {
        fs::write(path, text).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_file_is_read_again_only_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let file = WatchedFile::new(path.clone(), 100);
        assert_eq!(file.read_if_changed().unwrap_err().kind(), io::ErrorKind::NotFound);
        written(&path, "one", 60);
        assert_eq!(text(&file).as_deref(), Some("one"));
        assert_eq!(text(&file), None);
        written(&path, "two", 60);
        assert_eq!(text(&file).as_deref(), Some("two"));
        assert_eq!(text(&file), None);
        let other = folder.path().join("other");
        written(&other, "six", 60);
        fs::rename(&other, &path).unwrap();
        assert_eq!(text(&file).as_deref(), Some("six"), "a file put in its place");
    }

    #[test]
    fn a_file_written_just_now_is_not_trusted_to_be_its_last_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let file = WatchedFile::new(path.clone(), 100);
        written(&path, "one", 0);
        assert_eq!(text(&file).as_deref(), Some("one"));
        assert_eq!(text(&file).as_deref(), Some("one"));
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        written(&path, "0123456789", 60);
        assert_eq!(text(&WatchedFile::new(path.clone(), 10)).as_deref(), Some("0123456789"));
        let error = WatchedFile::new(path, 9).read_if_changed().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
